"""API keys: who may call what; off as long as no key is set."""

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import StartupError, UnauthorizedError
from service.logs import record_of
from service.problems import problem_response

MIN_KEY_CHARS = 16  # nobody is locked out for guessing, so there must be nothing to guess
OPEN_PATHS = frozenset({"/", "/favicon.ico", "/metrics"})
OPEN_FOLDERS = ("/health/", "/static/")
DOCS_PATHS = frozenset({"/docs", "/openapi.json"})
DOCS_FOLDER = "/docs/"
CHALLENGE = 'Bearer realm="stamp"'


@dataclass(frozen=True)
class ApiKeys:
    """The keys that open the service; none: everybody may come in.

    Only their SHA-256 is held: whoever reads the memory or a traceback finds no key.
    """

    digests: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def load(cls, given: SecretStr | None, file: Path | None) -> Self:
        """Keys separated by commas or white space, from a setting and a file, or StartupError."""
        try:
            texts = [
                given.get_secret_value() if given is not None else "",
                file.read_text(encoding="utf-8") if file is not None else "",
            ]
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"{file}: cannot read the API keys") from error
        keys = [key for text in texts for key in re.split(r"[\s,]+", text) if key]
        if any(len(key) < MIN_KEY_CHARS or not key.isascii() for key in keys):
            raise StartupError(f"an API key needs {MIN_KEY_CHARS} ASCII characters at least")
        if not keys and (given is not None or file is not None):
            raise StartupError("API keys are asked for, but there is none")
        return cls(tuple(hashlib.sha256(key.encode()).digest() for key in keys))

    def find(self, sent: bytes) -> str | None:
        """What the log calls this key; None if it is none of ours.

        Every key is compared, in constant time: how long it takes tells nothing.
        """
        digest = hashlib.sha256(sent).digest()
        matches = [hmac.compare_digest(digest, known) for known in self.digests]
        return digest.hex()[:8] if any(matches) else None


@dataclass(frozen=True)
class ApiKeyGate:
    """Refuse requests without a key, but for health, metrics and pages.

    The key is in `Authorization: Bearer`, else in `X-API-Key`.
    """

    app: ASGIApp
    keys: ApiKeys
    public_docs: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass on what is none."""
        if scope["type"] != "http" or is_open(scope["path"], public_docs=self.public_docs):
            await self.app(scope, receive, send)
            return
        sent = next(_sent_keys(scope), None)
        key_id = None if sent is None else self.keys.find(sent)
        if key_id is None:
            await problem_response(scope, _unauthorized(sent))(scope, receive, send)
            return
        record_of(scope).fields["key_id"] = key_id
        await self.app(scope, receive, send)


def is_open(path: str, *, public_docs: bool) -> bool:
    """Whether a path is there for everybody, without key or limit."""
    if path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
        return True
    return public_docs and (path in DOCS_PATHS or path.startswith(DOCS_FOLDER))


def _sent_keys(scope: Scope) -> Iterator[bytes]:
    """The keys that a request brings, `Authorization` first."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            yield value[7:].strip()
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            yield value.strip()


def _unauthorized(sent: bytes | None) -> UnauthorizedError:
    if sent is None:
        error = UnauthorizedError("Send an API key as `Authorization: Bearer` or `X-API-Key`.")
        error.headers = {"WWW-Authenticate": CHALLENGE}
    else:
        error = UnauthorizedError("This API key is not known.")
        error.headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
    return error
