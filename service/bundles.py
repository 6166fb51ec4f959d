"""BundleFolder: which versions of a model there are to serve, and which cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.bundle import MANIFEST, Manifest, latest, read_manifest
from model.errors import BundleError


@dataclass(frozen=True)
class Version:
    """A version whose manifest can be read; its files are verified when it is loaded.

    Args:
        folder: where its files are.
        manifest: what it says of itself.
    """

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """What requests and answers call it."""
        return self.manifest.version

    def fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        """Something that changes when the files do: their names, sizes and times."""
        facts = ((path.name, path.stat()) for path in sorted(self.folder.iterdir()))
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in facts)


@dataclass(frozen=True)
class BundleFolder:
    """A folder of versions, or one version by itself; looked through anew by every call."""

    path: Path

    def versions(self) -> list[Version]:
        """The newest first by created_at; one that is being copied or is damaged is left out."""
        found = {}
        for folder in sorted(self._folders()):
            try:
                version = Version(folder, read_manifest(folder))
            except BundleError:
                continue
            found[version.name] = version
        return sorted(found.values(), key=age, reverse=True)

    def require(self) -> list[Version]:
        """The versions, or BundleError if there is none, with the reason."""
        if versions := self.versions():
            return versions
        read_manifest(latest(self.path))
        raise BundleError(f"{self.path}: holds no bundle; train one or name another folder")

    def _folders(self) -> Iterator[Path]:
        if (self.path / MANIFEST).exists():
            yield self.path
            return
        try:
            below = list(self.path.iterdir())
        except OSError:
            return
        for path in below:
            if not path.name.startswith(".") and (path / MANIFEST).exists():
                yield path


def age(version: Version) -> tuple[str, str]:
    """Orders versions; the newest is the largest."""
    return version.manifest.created_at, version.folder.name
