"""Plan: which versions of the model serve, and the file in which that is kept.

The file is the one truth for a service that restarts, and for all replicas that share the folder.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from model.errors import BundleError

NEWEST = "newest"
WHOLE = 100.0

VersionName = Annotated[str, Field(min_length=1, max_length=256)]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]

log = structlog.get_logger()


class ShadowRule(BaseModel):
    """A version that answers along and is not heard: its answers are only compared."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    version: VersionName
    percent: Percent = Field(10.0, description="Of the requests, how many it answers along.")


class Plan(BaseModel):
    """Which versions serve whom."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    active: VersionName = Field(
        NEWEST, description="The version that serves; `newest` follows the bundle folder."
    )
    split: dict[VersionName, Percent] = Field(
        {},
        max_length=10,
        description="Other versions, each with its percentage of the users; always the same users.",
    )
    shadow: ShadowRule | None = Field(None, description="A version that is tried on real requests.")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if sum(self.split.values()) > WHOLE:
            raise PydanticCustomError("split_too_large", "the split comes to more than 100")
        if NEWEST in self.split or (self.shadow is not None and self.shadow.version == NEWEST):
            raise PydanticCustomError("newest_in_split", "only `active` may be `newest`")
        if self.active in self.split:
            raise PydanticCustomError("active_in_split", "the active version gets what is left")
        return self

    def version_of(self, user_id: str | None) -> str | None:
        """The version of the split whose user this is; None = the active one."""
        if user_id is None or not self.split:
            return None
        place, end = bucket(user_id) * WHOLE, 0.0
        for version, percent in sorted(self.split.items()):
            end += percent
            if place < end:
                return version
        return None


def bucket(user_id: str, purpose: str = "split") -> float:
    """A user's place in [0, 1), the same in every process and at all times.

    Args:
        user_id: of the user.
        purpose: another one gives independent places.
    """
    digest = hashlib.blake2b(f"{purpose}:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


@dataclass(frozen=True)
class PlanFile:
    """The plan on disk; no file means the newest version for all."""

    path: Path

    def read(self) -> Plan:
        """The plan, or BundleError that names what is wrong with the file."""
        try:
            return Plan.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return Plan()
        except OSError as error:
            raise BundleError(f"{self.path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise BundleError(f"{self.path}: {where}: {first['msg']}") from error

    def write(self, plan: Plan) -> bool:
        """Replace the file in one step; False, and a line in the log, if it cannot be written."""
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            with part.open("wb") as file:
                file.write(plan.model_dump_json(indent=2).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            log.warning("plan_not_kept", path=str(self.path), error=error.strerror)
            return False
        return True
