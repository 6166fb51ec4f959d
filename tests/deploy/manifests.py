"""The Kubernetes manifests as plain values: as they stand in the files, and rendered."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
BASE = FOLDER / "base"
OVERLAYS = ("cpu", "gpu", "keda")
KUSTOMIZATIONS = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))

Resource = dict[str, Any]


def resources(folder: Path = BASE) -> list[Resource]:
    """What the files of a folder that is kustomized define."""
    listed = kustomization(folder).get("resources", [])
    return [one for name in listed if name.endswith(".yaml") for one in documents(folder / name)]


def documents(file: Path) -> list[Resource]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def kustomization(folder: Path) -> Resource:
    """What a folder's kustomization.yaml says."""
    (found,) = documents(folder / "kustomization.yaml")
    return found


def find(kind: str, name: str, among: list[Resource] | None = None) -> Resource:
    """The resource of a kind and name; by default of the base."""
    (found,) = (
        one
        for one in (resources() if among is None else among)
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )
    return found


def pods(among: list[Resource] | None = None) -> dict[str, Resource]:
    """Every pod template, by the name of what makes pods of it."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in (resources() if among is None else among)
        if "template" in one.get("spec", {})
    }


def containers(pod: Resource) -> Iterator[Resource]:
    """A pod's containers, those included that run first."""
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def settings() -> dict[str, str]:
    """The variables of settings.env."""
    lines = (BASE / "settings.env").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if not line.startswith("#"))
    return {pair[0]: pair[1] for pair in pairs}


def kustomize() -> list[str] | None:
    """The command that renders a folder, if there is one on this machine."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def rendered(overlay: str) -> list[Resource]:
    """What kustomize makes of an overlay."""
    command = kustomize()
    assert command is not None
    done = subprocess.run(
        [*command, str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, check=True
    )
    return list(yaml.safe_load_all(done.stdout))
