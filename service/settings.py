"""Settings: what an operator may change, from flags, STAMP_* variables, `.env` and defaults."""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import DirectoryPath, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import StartupError
from service.schemas import MAX_DEADLINE_MS, MAX_LIMIT

PREFIX = "STAMP_"

PositiveInt = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """Read once at start-up; a flag beats a variable, that beats `.env`, that beats the default."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        dotenv_filtering="match_prefix",
        extra="forbid",
        frozen=True,
    )

    bundle_dir: DirectoryPath = Field(
        description="Folder with a model's versions; the newest is served."
    )
    history_url: str = Field(
        "sqlite:///var/histories.sqlite3",
        description="History store: sqlite:///PATH, redis://HOST, redis+cluster://HOST, or "
        "memory:// (lost at exit).",
    )
    max_history_items: PositiveInt = Field(
        200, description="Items the store keeps per user; the oldest are forgotten first."
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")

    device: str = Field("cpu", description="Where the model runs, as torch names it.")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="The weights' number type."
    )
    num_threads: PositiveInt = Field(
        1, description="CPU threads of the model; more help large models on idle cores only."
    )
    prompt_cache_mb: int = Field(
        256, ge=0, description="Memory for histories as the model read them, in MB; 0 keeps none."
    )

    max_queue_rows: PositiveInt = Field(
        256, description="Requests that may wait; the next one gets 429."
    )
    max_batch_rows: PositiveInt = Field(32, description="Requests in one batch.")
    max_batch_tokens: PositiveInt = Field(
        16_384, description="History tokens in one batch, padding counted."
    )
    default_beam_width: PositiveInt | None = Field(
        None, description="Beam width of requests that name none; the engine's own when not given."
    )
    max_beam_width: int = Field(200, ge=MAX_LIMIT, description="Widest beam a request may ask for.")
    default_deadline_ms: PositiveInt = Field(
        5_000, le=MAX_DEADLINE_MS, description="Deadline of requests that name none."
    )
    max_body_bytes: PositiveInt = Field(262_144, description="Longest request body.")

    stall_after_s: float = Field(
        30.0, gt=0, description="A batch running longer makes the service not ready."
    )
    drain_delay_s: float = Field(
        0.0, ge=0, description="After SIGTERM: keep accepting this long while not ready."
    )
    drain_timeout_s: PositiveInt = Field(
        25, description="After SIGTERM: wait this long for requests in flight."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important level."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="One JSON object per line, or lines for people."
    )

    def redacted(self) -> dict[str, Any]:
        """The settings as plain values, a password in a URL replaced by ***."""
        values = self.model_dump(mode="json")
        return values | {"history_url": without_password(self.history_url)}


def load_settings(**flags: Any) -> Settings:
    """Settings from `flags` (None: not given) and the environment, or StartupError in one line."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise StartupError(f"{name} is not a setting; see `python -m service serve --help`")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise StartupError(_in_one_line(error)) from error


def without_password(url: str) -> str:
    """The URL with its password, if it has one, replaced by ***."""
    address, mark, query = url.partition("?")
    scheme, slashes, rest = address.partition("://")
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{scheme}{slashes}{user}{colon}***{at}{host}" if colon else address
    return shown + mark + re.sub(r"(^|&)(password=)[^&]*", r"\1\2***", query)


def _in_one_line(error: ValidationError) -> str:
    """Every wrong setting by its variable's name, with what is wrong about it."""
    wrong = []
    for entry in error.errors(include_url=False, include_context=False):
        name = f"{PREFIX}{'.'.join(map(str, entry['loc']))}".upper()
        match entry["type"]:
            case "extra_forbidden":
                wrong.append(f"{name} is not a setting; see `python -m service serve --help`")
            case "missing":
                wrong.append(f"{name} (--{str(entry['loc'][0]).replace('_', '-')}) must be given")
            case _:
                wrong.append(f"{name}={entry['input']}: {entry['msg']}")
    return "; ".join(wrong)
