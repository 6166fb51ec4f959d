"""Settings: what an operator may change, from flags, STAMP_* variables, `.env` and defaults."""

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    DirectoryPath,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from model.bundle import MANIFEST
from model.speed import SpeedMode
from service.errors import StartupError
from service.schemas import MAX_DEADLINE_MS, MAX_LIMIT
from service.setting_types import BatchSizes, PositiveInt, Rate

PREFIX = "STAMP_"
SECRETS = {("api_keys",), ("history_url",), ("rate_limit_url",)}


class Settings(BaseSettings):
    """Read once at start-up.

    A flag beats a variable, that beats `.env`, that beats the TOML file, that beats the default.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        dotenv_filtering="match_prefix",
        extra="forbid",
        frozen=True,
    )

    config_file: FilePath | None = Field(
        None, description="TOML file with settings, e.g. port = 9000; everything else beats it."
    )
    bundle_dir: DirectoryPath = Field(
        description="Folder with a model's versions; the newest is served."
    )
    plan_file: Path | None = Field(
        None,
        description="File that says which versions serve; serving.json in the bundle folder when "
        "not given.",
    )
    bundle_poll_s: float = Field(
        0.0,
        ge=0,
        description="How often to look for a newer version or another plan; 0 = only when asked.",
    )
    beam_check_percent: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Of the answers, how many are searched again exactly, for stamp_beam_check_*.",
    )
    history_url: str = Field(
        "sqlite:///var/histories.sqlite3",
        description="History store: sqlite:///PATH, redis://HOST, redis+cluster://HOST, or "
        "memory:// (lost at exit).",
    )
    history_url_file: Path | None = Field(
        None, description="File with that URL, for one with a password; beats the URL itself."
    )
    catalog_file: Path | None = Field(
        None,
        description="SQLite file that keeps changes to the catalog; without it there are none.",
    )
    max_history_items: PositiveInt = Field(
        200, description="Items the store keeps per user; the oldest are forgotten first."
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")

    device: str = Field("cpu", description="Where the model runs, as torch names it.")
    dtype: SpeedMode = Field(
        "float32",
        description="The weights' number type: float32, bfloat16, or int8 (CPU only).",
    )
    torch_compile: BatchSizes | None = Field(
        None,
        description="Batch sizes whose passes torch.compile compiles, e.g. 1,8: minutes at the "
        "start; no pass when not given.",
    )
    num_threads: PositiveInt = Field(
        1, description="CPU threads of the model; more help large models on idle cores only."
    )
    model_threads: PositiveInt = Field(
        1, description="Batches that are computed at the same time; more than 1 on a CPU only."
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
    effort_wait_ms: int = Field(
        500,
        ge=0,
        description="Predicted wait in the queue for each step to less effort; 0 = always all.",
    )
    max_body_bytes: PositiveInt = Field(262_144, description="Longest request body.")

    api_keys: SecretStr | None = Field(
        None, description="Keys that open the service, separated by commas; open when not given."
    )
    api_keys_file: Path | None = Field(
        None, description="File with such keys, one a line; read at the start."
    )
    public_docs: bool = Field(True, description="Whether /docs and /openapi.json need no key.")
    page: bool = Field(True, description="Whether there is a page at / to try the service with.")
    rate_limit: Rate | None = Field(
        None, description="Most requests per key, or per address without keys, e.g. 100/second."
    )
    rate_limit_url: str = Field(
        "memory://",
        description="Where they are counted: memory://, or redis://HOST:PORT for all replicas.",
    )

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

    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="Port for /metrics alone; on the service's when not given.",
    )
    otel: bool = Field(
        False, description="Traces and metrics by OpenTelemetry, as OTEL_* variables say."
    )

    @field_validator("torch_compile")
    @classmethod
    def _check_dtype(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("dtype") == "int8":
            raise PydanticCustomError("no_int8", "int8 cannot be compiled by torch.compile")
        return value

    @field_validator("model_threads")
    @classmethod
    def _check_threads(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("device", "cpu") != "cpu":
            raise PydanticCustomError("cpu_only", "only a CPU takes several batches at once")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, the strongest first; any but the last may name the last, the file."""
        sources = (init_settings, env_settings, dotenv_settings)
        named = [path for source in sources if (path := source().get("config_file")) is not None]
        file = TomlConfigSettingsSource(settings_cls, Path(named[0])) if named else None
        return sources if file is None else (*sources, file)

    @property
    def plan_path(self) -> Path:
        """The plan's file: where the versions are, or beside a bundle that is served alone."""
        if self.plan_file is not None:
            return self.plan_file
        if (self.bundle_dir / MANIFEST).exists():
            return self.bundle_dir.with_name(f"{self.bundle_dir.name}.serving.json")
        return self.bundle_dir / "serving.json"

    @property
    def store_url(self) -> str:
        """The history store's URL, from its file if there is one; StartupError if it is no use."""
        return read_url(self.history_url_file) if self.history_url_file else self.history_url

    @property
    def compiled_batch_sizes(self) -> tuple[int, ...]:
        """Of `torch_compile`, ascending."""
        return tuple(map(int, self.torch_compile.split(","))) if self.torch_compile else ()

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return self.api_keys is not None or self.api_keys_file is not None

    def redacted(self) -> dict[str, Any]:
        """The settings as plain values, keys and passwords in URLs replaced by stars."""
        values = self.model_dump(mode="json")
        urls = {name: without_password(values[name]) for name in ("history_url", "rate_limit_url")}
        return values | urls


def load_settings(**flags: Any) -> Settings:
    """Settings from `flags` (None: not given) and all else, or StartupError in one line."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise StartupError(f"{name} is not a setting; see `python -m service serve --help`")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise StartupError(_in_one_line(error)) from error
    except (OSError, ValueError) as error:  # of the TOML file
        raise StartupError(f"{PREFIX}CONFIG_FILE: {error}") from error


def read_url(file: Path) -> str:
    """The URL that a file holds, or StartupError."""
    try:
        url = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{file}: cannot read the URL of the history store") from error
    if not url:
        raise StartupError(f"{file}: holds no URL of a history store")
    return url


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
                shown = "***" if entry["loc"] in SECRETS else entry["input"]
                wrong.append(f"{name}={shown}: {entry['msg']}")
    return "; ".join(wrong)
