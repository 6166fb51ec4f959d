"""Lineup: who serves, as one immutable value; Draft: a lineup in the making."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from model.errors import ModelError
from service.bundles import Version
from service.errors import ModelNotFoundError, ModelNotLoadedError, ModelUnusableError
from service.plan import Plan
from service.serving import Serving, Workshop


@dataclass(frozen=True)
class Lineup:
    """Who serves.

    Args:
        plan: that this lineup carries out.
        active: serves whom the split does not.
        serving: every loaded version by its name.
        previous: the version that was active before; it stays loaded, for a rollback at once.
    """

    plan: Plan
    active: Serving
    serving: Mapping[str, Serving]
    previous: str | None = None

    def choose(self, user_id: str | None, pinned: str | None) -> Serving:
        """Whose turn it is; ModelNotLoadedError if the request insists on another version."""
        if pinned is not None:
            if pinned not in self.serving:
                loaded = ", ".join(sorted(self.serving))
                raise ModelNotLoadedError(f"Only these versions serve here: {loaded}.")
            return self.serving[pinned]
        return self.serving.get(self.plan.version_of(user_id) or "", self.active)


@dataclass
class Draft:
    """A lineup in the making: what is loaded already, and what was loaded for it."""

    workshop: Workshop
    on_loaded: Callable[[], None]
    serving: dict[str, Serving]
    fresh: list[Serving] = field(default_factory=list)

    async def take(self, version: Version) -> Serving:
        """The version, loaded if need be; ModelUnusableError if that fails."""
        if version.name not in self.serving:
            try:
                built = await self.workshop.build(version, self.on_loaded)
            except ModelError as error:
                raise ModelUnusableError(f"{version.name}: {error}") from error
            self.serving[version.name] = built
            self.fresh.append(built)
        return self.serving[version.name]


def named(versions: Mapping[str, Version], serving: Mapping[str, Serving], name: str) -> Version:
    """The version of this name, in the folder or still loaded; or ModelNotFoundError."""
    if name in serving:
        return serving[name].version
    if name not in versions:
        known = ", ".join(versions) or "none"
        raise ModelNotFoundError(f"No version {name} in the bundle folder; there are: {known}.")
    return versions[name]
