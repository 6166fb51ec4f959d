"""deploy/kubernetes: valid by Kubernetes' schemas, whole, and fitting together."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.metrics import Metrics
from tests.deploy import manifests
from tests.deploy.manifests import BASE, FOLDER, KUSTOMIZATIONS, OVERLAYS, ROOT, find, pods

VERSIONS = ["1.29", "1.37"]
"""Kubernetes' oldest and newest for which the manifests are meant."""
OF_OPERATORS = {"ScaledObject", "ServiceMonitor"}
"""Kinds whose schemas are not Kubernetes' own."""

with_kustomize = pytest.mark.skipif(
    manifests.kustomize() is None, reason="neither kustomize nor kubectl is here"
)


def check_schemas(resources: list[dict[str, Any]], version: str) -> set[str]:
    """Validate what Kubernetes knows, and return the other kinds."""
    own = [one for one in resources if one["kind"] not in OF_OPERATORS]
    for one in own:
        kubernetes_validate.validate(one, version, strict=True)
    return {one["kind"] for one in resources} & OF_OPERATORS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_files_are_valid(folder: Path, version: str) -> None:
    """No field that Kubernetes does not know, no wrong type, no missing one."""
    check_schemas(manifests.resources(folder), version)


@with_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_render_to_valid_resources(overlay: str) -> None:
    """Every image has a registry and a tag, whatever is referred to is there."""
    made = manifests.rendered(overlay)
    images = {one["image"] for pod in pods(made).values() for one in manifests.containers(pod)}
    ours = {image for image in images if not image.startswith("valkey/")}

    for version in VERSIONS:
        check_schemas(made, version)
    assert all(re.fullmatch(r"registry\.example\.com/[a-z-]+:[a-z]+", image) for image in ours)
    assert len(ours) == 2
    assert {one["metadata"].get("namespace", "stamp") for one in made} == {"stamp"}


@with_kustomize
def test_a_gpu_is_asked_for_by_the_overlay_alone() -> None:
    """One to a replica; a rollout needs no spare one."""
    deployment = find("Deployment", "stamp", manifests.rendered("gpu"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["image"].endswith(":cuda")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert deployment["spec"]["replicas"] == 2
    assert "nvidia.com" not in str(manifests.resources())


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_every_file_is_part_of_something(folder: Path) -> None:
    """What kustomization.yaml does not name would never be applied."""
    said = manifests.kustomization(folder)
    named = {
        *said.get("resources", []),
        *said.get("components", []),
        *(patch["path"] for patch in said.get("patches", [])),
        *(file for map_ in said.get("configMapGenerator", []) for file in map_.get("files", [])),
        *(file for map_ in said.get("configMapGenerator", []) for file in map_.get("envs", [])),
    }
    own = {name for name in named if not name.startswith("..")}

    assert own == {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    assert [name for name in named if not (folder / name).exists()] == []


def test_patches_change_what_is_there() -> None:
    """By kind and name."""
    for overlay in OVERLAYS:
        folder = FOLDER / "overlays" / overlay
        for patch in manifests.kustomization(folder).get("patches", []):
            for change in manifests.documents(folder / patch["path"]):
                assert find(change["kind"], change["metadata"]["name"])


def test_selectors_find_pods() -> None:
    """Of services, budgets, policies and spreading."""
    labels = {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods().values()}
    text = "\n".join(path.read_text(encoding="utf-8") for path in BASE.glob("*.yaml"))
    named = re.findall(r"app\.kubernetes\.io/name: ([a-z-]+)", text)
    listed = re.findall(r"app\.kubernetes\.io/name, operator: In, values: \[([^\]]+)\]", text)

    assert {*named, *re.split(", ", ", ".join(listed))} == labels


def test_the_store_is_the_one_of_docker_compose() -> None:
    """The same image and options; its address is the one in the secret."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    valkey = compose["services"]["valkey"]
    options = {word.removeprefix("--") for word in valkey["command"] if word.startswith("--")}
    config = (BASE / "valkey.conf").read_text(encoding="utf-8").splitlines()
    (container,) = pods()["valkey"]["spec"]["containers"]

    assert f"-{container['image']}}}" in valkey["image"]
    assert options - {"protected-mode no"} == set(config[1:]) - {"dir /data"}
    assert find("Service", "valkey")["spec"]["ports"][0]["port"] == 6379
    assert "@valkey:6379/" in (ROOT / "scripts" / "secrets.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("overlay", "kind"), [("cpu", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")]
)
def test_what_scales_finds_its_target(overlay: str, kind: str) -> None:
    """Two replicas at least, so that a node may fail."""
    scaler = find(kind, "stamp", manifests.resources(FOLDER / "overlays" / overlay))
    fewest = scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount"))

    assert find("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in find("Deployment", "stamp")["spec"]
    assert fewest == 2


def test_keda_asks_for_a_metric_of_ours() -> None:
    """The rows that wait."""
    scaler = find("ScaledObject", "stamp", manifests.resources(FOLDER / "overlays" / "keda"))
    (query,) = (
        one["metadata"]["query"]
        for one in scaler["spec"]["triggers"]
        if one["type"] == "prometheus"
    )
    names = {family.name for family in Metrics().registry.collect()}

    assert set(re.findall(r"stamp_\w+", query)) == {"stamp_queue_rows"}
    assert "stamp_queue_rows" in names


def test_prometheus_scrapes_the_port_of_the_metrics() -> None:
    """Under the job's name that the alerts ask for: the service's."""
    monitor = find(
        "ServiceMonitor", "stamp", manifests.resources(FOLDER / "components" / "monitoring")
    )
    service = find("Service", "stamp")
    alerts = (ROOT / "deploy" / "observability" / "alerts.yml").read_text(encoding="utf-8")

    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert monitor["spec"]["endpoints"][0]["port"] in {
        one["name"] for one in service["spec"]["ports"]
    }
    assert f'job="{service["metadata"]["name"]}"' in alerts


def test_everything_is_denied_that_is_not_allowed() -> None:
    """The first policy holds for every pod, both ways; the store is reached from our pods alone."""
    spec = find("NetworkPolicy", "deny-all")["spec"]
    (entry,) = find("NetworkPolicy", "valkey")["spec"]["ingress"]
    (names,) = entry["from"][0]["podSelector"]["matchExpressions"]

    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert len(entry["from"]) == 1
    assert names["values"] == ["stamp", "train"]
