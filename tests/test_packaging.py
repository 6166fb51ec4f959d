"""The locks: each part of the next, all of it hashed, torch and all indexes left out."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = {path.stem: path for path in sorted(ROOT.glob("requirements/*.lock"))}


def pins_of(lock: str) -> dict[str, str]:
    """Each requirement of a lock (name, version, marker) with what follows it: hashes, comments."""
    text = LOCKS[lock].read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w[^\\\n]+?) \\\n((?:    .+\n)+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("part", "whole"), [("service", "runtime"), ("runtime", "dev"), ("loadtest", "dev")]
)
def test_a_lock_is_part_of_the_next(part: str, whole: str) -> None:
    """What was tested with `dev` is what the other locks install."""
    everywhere = pins_of(whole).keys()
    assert {pin for pin in pins_of(part) if pin.partition(" ;")[0] not in everywhere} <= everywhere


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("service", ()),
        ("runtime", ("train",)),
        ("dev", ("train", "bench", "loadtest", "dev")),
        ("ray", ("ray",)),
    ],
)
def test_a_lock_holds_what_the_project_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    """Whoever adds a dependency locks it; torch is the one exception."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["optional-dependencies"][extra] for extra in extras]
    asked = {re.split(r"[^\w-]", line)[0] for line in sum(groups, project["dependencies"])}

    assert asked - {"torch"} <= {pin.partition("==")[0] for pin in pins_of(lock)}


def test_the_load_test_installs_without_the_service() -> None:
    """Its lock holds its own extra, and neither the service's framework nor its server."""
    names = {pin.partition("==")[0] for pin in pins_of("loadtest")}

    assert {"locust", "matplotlib", "polars"} <= names
    assert names & {"fastapi", "uvicorn", "safetensors"} == set()


def test_ray_comes_on_top_of_what_was_tested() -> None:
    """Installing its lock changes no version of `dev`."""
    versions = [
        dict(re.findall(r"^([\w-]+)==([\w.]+)", "\n".join(pins_of(lock)), re.MULTILINE))
        for lock in ("dev", "ray")
    ]
    shared = versions[0].keys() & versions[1].keys()

    assert len(shared) > 30
    assert {name for name in shared if versions[0][name] != versions[1][name]} == set()


@pytest.mark.parametrize("extra", ["encoders", "baselines"])
def test_an_optional_library_is_in_no_lock(extra: str) -> None:
    """`make test` passes without it; whoever asks for it installs it on top."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {re.split(r"[^\w-]", line)[0] for line in project["optional-dependencies"][extra]}

    assert asked & {pin.partition("==")[0] for lock in LOCKS for pin in pins_of(lock)} == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_hashed(lock: str) -> None:
    """A name, one version, and at least one sha256."""
    pins = pins_of(lock)

    assert len(pins) == len(re.findall(r"^\w", LOCKS[lock].read_text("utf-8"), flags=re.MULTILINE))
    assert all(re.match(r"[\w.-]+==[\w.]+( ;|$)", pin) for pin in pins)
    assert all("--hash=sha256:" in rest for rest in pins.values())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_neither_an_index_nor_torch(lock: str) -> None:
    """It installs from whatever pip is set up to use, and never brings a CUDA build."""
    text = LOCKS[lock].read_text(encoding="utf-8")

    assert "://" not in text
    assert re.findall(r"^(?:torch|triton|(?:cuda|nvidia)-[\w-]+)==", text, flags=re.MULTILINE) == []


def test_the_script_installs_the_torch_that_the_project_asks_for() -> None:
    """scripts/install.sh and pyproject.toml name one version."""
    script = (ROOT / "scripts" / "install.sh").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    assert re.findall(r"^torch_version=(.+)$", script, flags=re.MULTILINE) == re.findall(
        r'"torch==([^"]+)"', project
    )
