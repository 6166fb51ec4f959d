"""The pods of deploy/kubernetes: allowed next to nothing, given what they need, ended gently."""

import re
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.plan import Plan
from service.settings import Settings
from tests.deploy import manifests
from tests.deploy.manifests import BASE, ROOT, pods
from tests.service.conftest import settings_for

PODS = sorted(pods())


@pytest.mark.parametrize("name", PODS)
def test_a_pod_passes_the_strictest_pod_security_standard(name: str) -> None:
    """`restricted`, a root file system that cannot be written, and no token."""
    pod = pods()[name]
    context = pod["spec"]["securityContext"]

    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False
    for container in manifests.containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", PODS)
def test_a_pod_says_what_it_needs(name: str) -> None:
    """So that it is placed where that is, and ends before it takes a node along."""
    for container in manifests.containers(pods()[name]):
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", PODS)
def test_whatever_a_pod_mounts_is_there(name: str) -> None:
    """Volumes, claims, config maps and the keys of the secret, which scripts/secrets.sh makes."""
    spec = pods()[name]["spec"]
    mounted = {
        mount["name"]
        for container in manifests.containers(pods()[name])
        for mount in container["volumeMounts"]
    }
    templates = find_templates(name)
    claims = {
        one["metadata"]["name"]
        for one in manifests.resources()
        if one["kind"] == "PersistentVolumeClaim"
    }
    maps = {one["name"] for one in manifests.kustomization(BASE)["configMapGenerator"]}
    volumes = spec["volumes"]

    assert mounted == {one["name"] for one in volumes} | templates
    assert {
        one["persistentVolumeClaim"]["claimName"]
        for one in having(volumes, "persistentVolumeClaim")
    } <= claims
    assert {one["configMap"]["name"] for one in having(volumes, "configMap")} <= maps
    for one in having(volumes, "secret"):
        assert one["secret"]["secretName"] == "stamp-secrets"
        assert {item["key"] for item in one["secret"]["items"]} <= secrets_made()


def having(volumes: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The volumes of a kind."""
    return [one for one in volumes if kind in one]


def find_templates(name: str) -> set[str]:
    """The volumes that a StatefulSet makes for each of its pods."""
    return {
        claim["metadata"]["name"]
        for one in manifests.resources()
        if one["kind"] == "StatefulSet" and one["metadata"]["name"] == name
        for claim in one["spec"]["volumeClaimTemplates"]
    }


def secrets_made() -> set[str]:
    """The files of scripts/secrets.sh."""
    script = (ROOT / "scripts" / "secrets.sh").read_text(encoding="utf-8")
    return set(re.findall(r"^keep (\w+) ", script, flags=re.MULTILINE))


def test_settings_are_the_services() -> None:
    """Each variable a setting with a value that it takes; each secret a file that is mounted."""
    given: dict[str, Any] = {
        name.removeprefix("STAMP_").lower(): value for name, value in manifests.settings().items()
    }
    bundle_dir = given.pop("bundle_dir")
    read = Settings(_env_file=None, bundle_dir=ROOT, **given)
    (secrets,) = (
        mount["mountPath"]
        for mount in pods()["stamp"]["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] == "secrets"
    )

    assert bundle_dir.startswith("/app/bundles/")
    assert read.api_keys_file == Path(secrets) / "api_keys"
    assert read.history_url_file == Path(secrets) / "history_url"
    assert read.metrics_port == port("metrics")


def port(name: str) -> int:
    """A port of the service's container by its name."""
    ports = pods()["stamp"]["spec"]["containers"][0]["ports"]
    (found,) = (one["containerPort"] for one in ports if one["name"] == name)
    assert isinstance(found, int)
    return found


def test_a_pod_ends_after_its_requests() -> None:
    """The grace period is longer than all before it, the delay than readiness takes to fail."""
    given = manifests.settings()
    delay_s, drain_s = (float(given[f"STAMP_DRAIN_{name}_S"]) for name in ("DELAY", "TIMEOUT"))
    container = pods()["stamp"]["spec"]["containers"][0]
    readiness, hook_s = container["readinessProbe"], container["lifecycle"]["preStop"]["sleep"]

    grace_s = pods()["stamp"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > hook_s["seconds"] + delay_s + drain_s
    assert delay_s > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_probes_ask_for_what_the_service_answers(tmp_path: Path) -> None:
    """Ready before traffic, alive or started anew, and no probe of life before it is ready."""
    paths = create_app(settings_for(tmp_path)).openapi()["paths"]
    (container,) = pods()["stamp"]["spec"]["containers"]
    probes = {
        kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")
    }

    assert probes["startup"] == probes["readiness"] == {"path": "/health/ready", "port": "http"}
    assert probes["liveness"] == {"path": "/health/live", "port": "http"}
    assert {probe["path"] for probe in probes.values()} <= paths.keys()
    assert port("http") == 8000


def test_the_plan_is_one() -> None:
    """The newest version serves everybody; it is mounted where the service looks for it."""
    plan = Plan.model_validate_json((BASE / "serving.json").read_text(encoding="utf-8"))

    assert plan == Plan()
    assert manifests.settings()["STAMP_PLAN_FILE"] == "/app/plan/serving.json"


def test_the_job_makes_what_is_served() -> None:
    """The recipe's bundle, in the folder that the service looks into."""
    (container,) = pods()["train"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}

    assert manifests.settings()["STAMP_BUNDLE_DIR"] == f"/app/bundles/{variables['RECIPE']}"
    assert (ROOT / "training" / "recipes" / f"{variables['RECIPE']}.toml").exists()
