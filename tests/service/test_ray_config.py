"""The configurations in deploy/ray, without Ray: they name what exists."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.plan import Plan
from service.schemas import MAX_DEADLINE_MS
from service.settings import Settings
from tests.service.process import ROOT

FOLDER = ROOT / "deploy" / "ray"
CONFIG = FOLDER / "serve.yaml"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


def application(file: Path) -> dict[str, Any]:
    """The one application of a configuration."""
    (found,) = yaml.safe_load(file.read_text(encoding="utf-8"))["applications"]
    assert isinstance(found, dict)
    return found


def names_of(module: str) -> set[str]:
    """The functions and classes that a module defines."""
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: path.name)
def test_it_names_what_exists(file: Path) -> None:
    """The builder, the deployment, every setting, and a plan."""
    found = application(file)
    module, _, builder = found["import_path"].partition(":")
    (deployment,) = found["deployments"]

    assert {builder, deployment["name"]} <= names_of(module)
    assert found["args"].keys() <= Settings.model_fields.keys()
    assert Plan.model_validate(deployment["user_config"]).active == "newest"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: path.name)
def test_its_settings_are_valid(file: Path, tmp_path: Path) -> None:
    """Whatever the folder is called."""
    args = application(file)["args"] | {"bundle_dir": tmp_path}

    assert Settings(_env_file=None, **args).history_url.startswith("redis://")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: path.name)
def test_a_request_may_use_its_deadline(file: Path) -> None:
    """Ray gives up on a request only after the service would have."""
    options = yaml.safe_load(file.read_text(encoding="utf-8"))["http_options"]

    assert options["request_timeout_s"] * 1000 > MAX_DEADLINE_MS
    assert options["host"] == "0.0.0.0"  # noqa: S104  # replicas are reached from other nodes


def test_gpus_differ_in_what_they_must() -> None:
    """A GPU a replica, or a part of one, and the device."""
    on_cpu, on_gpu = (application(FOLDER / name) for name in ("serve.yaml", "serve-gpu.yaml"))

    assert on_gpu["args"]["device"] == "cuda"
    assert 0 < on_gpu["deployments"][0]["ray_actor_options"]["num_gpus"] <= 1
    assert "num_gpus" not in on_cpu["deployments"][0]["ray_actor_options"]
