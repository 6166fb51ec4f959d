"""docker-compose.yml, its overlay and what they mount, read without an engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "docker-compose.yml"
OVERLAY = ROOT / "deploy" / "compose.secrets.yml"
GRAFANA = ROOT / "deploy" / "observability" / "grafana"
ALWAYS = {"stamp", "demo", "valkey"}
BY_PROFILE = {
    "gpu": {"stamp-gpu"},
    "train": {"train"},
    "obs": {"prometheus", "grafana"},
    "load": {"load"},
}
ONCE = {"demo", "train", "load"}


def compose(path: Path = MAIN) -> dict[str, Any]:
    """The file, each ${NAME:-default} replaced by its default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text(encoding="utf-8"))
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


def services(path: Path = MAIN) -> dict[str, dict[str, Any]]:
    """The services by name."""
    found: dict[str, dict[str, Any]] = compose(path)["services"]
    return found


def seconds(text: str) -> float:
    """What a duration such as 40s says."""
    return float(text.removesuffix("s"))


def mounts(service: dict[str, Any]) -> list[list[str]]:
    """Source, target and the rest of each volume."""
    return [volume.split(":") for volume in service.get("volumes", [])]


def mounted_at(service: str, target: str) -> Path:
    """The file of ours that a container sees at a path."""
    (source,) = (mount[0] for mount in mounts(services()[service]) if mount[1] == target)
    return ROOT / source


def test_profiles_add_to_what_always_runs() -> None:
    """`docker compose up` needs no profile; each profile adds its own."""
    found: dict[str, set[str]] = {}
    for name, service in services().items():
        for profile in service.get("profiles", ["always"]):
            found.setdefault(profile, set()).add(name)

    assert found == {"always": ALWAYS, **BY_PROFILE}


@pytest.mark.parametrize("name", sorted(services()))
def test_a_container_may_do_as_little_as_possible(name: str) -> None:
    """No capability, no new privilege, nothing to write on but volumes and /tmp."""
    service = services()[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert [mount.partition(":size=")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108
    assert "privileged" not in service
    assert "network_mode" not in service


@pytest.mark.parametrize("name", sorted(services()))
def test_a_container_has_limits(name: str) -> None:
    """Processors, memory and processes; and its log ends somewhere."""
    service = services()[name]

    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", sorted(services()))
def test_no_image_moves_by_itself(name: str) -> None:
    """What is pulled has a whole version; what has none is built here and never pulled."""
    service = services()[name]
    tag = service["image"].partition(":")[2]

    assert (service.get("pull_policy") == "build") == ("build" in service)
    assert "build" in service or re.fullmatch(r"v?\d+\.\d+\.\d+", tag)


@pytest.mark.parametrize("name", sorted(services()))
def test_every_image_built_is_a_stage_of_the_dockerfile(name: str) -> None:
    """By its name."""
    stages = set(
        re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    )
    build = services()[name].get("build")

    assert build is None or build["target"] in stages


@pytest.mark.parametrize("name", ["stamp", "stamp-gpu"])
def test_the_grace_period_is_longer_than_the_drain(name: str) -> None:
    """Else the engine kills what is still being answered."""
    service = services()[name]
    settings = settings_of(service)

    drain_s = settings.drain_delay_s + settings.drain_timeout_s
    assert seconds(service["stop_grace_period"]) > drain_s


@pytest.mark.parametrize("name", ["stamp", "stamp-gpu"])
@pytest.mark.parametrize("path", [MAIN, OVERLAY], ids=lambda path: path.name)
def test_every_variable_is_a_setting(name: str, path: Path) -> None:
    """A name that the service does not know would keep it from starting."""
    variables = services(path)[name]["environment"]
    known = {f"STAMP_{setting.upper()}" for setting in Settings.model_fields}

    assert variables.keys() <= known


def settings_of(service: dict[str, Any]) -> Settings:
    """The settings that a service of the file would start with; folders are not looked for."""
    given = {
        name.removeprefix("STAMP_").lower(): value
        for name, value in service["environment"].items()
        if name != "STAMP_BUNDLE_DIR"
    }
    return Settings(_env_file=None, bundle_dir=ROOT, **given)


def test_the_service_starts_after_store_and_bundle() -> None:
    """Store up, demo made."""
    assert services()["stamp"]["depends_on"] == {
        "valkey": {"condition": "service_healthy"},
        "demo": {"condition": "service_completed_successfully"},
    }
    assert services()["demo"]["restart"] == "no"


@pytest.mark.parametrize("name", sorted(services().keys() - ONCE))
def test_whatever_stays_up_has_a_health_check(name: str) -> None:
    """`up --wait` returns when all of them pass."""
    check = services()[name]["healthcheck"]

    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert seconds(check["timeout"]) < seconds(check["interval"])


def test_the_store_neither_forgets_nor_grows() -> None:
    """As docs/operations.md asks for, with the overlay, too."""
    plain = " ".join(services()["valkey"]["command"])
    with_password = services(OVERLAY)["valkey"]["command"][-1]

    for option in ("appendonly yes", "maxmemory 256mb", "maxmemory-policy noeviction"):
        assert f"--{option}" in plain
        assert f"--{option}" in with_password


def test_ports_are_published_on_this_machine_alone() -> None:
    """Unless ADDRESS says otherwise; the store has none."""
    published = {
        name: [port.split(":")[0] for port in service.get("ports", [])]
        for name, service in services().items()
    }

    assert published["valkey"] == []
    assert {address for addresses in published.values() for address in addresses} == {"127.0.0.1"}


def test_host_ports_do_not_clash() -> None:
    """All profiles may run at once."""
    ports = [port.split(":")[1] for one in services().values() for port in one.get("ports", [])]

    assert len(ports) == len(set(ports))


def test_every_volume_used_is_named() -> None:
    """And whatever is mounted from here is there, and cannot be written."""
    named = {f"{name}" for name in compose()["volumes"]}
    used = [mount for one in services().values() for mount in mounts(one)]
    ours = [mount for mount in used if mount[0].startswith("./") and mount[0] != "./data"]

    assert {mount[0] for mount in used if not mount[0].startswith(".")} == named
    assert [mount[0] for mount in ours if not (ROOT / mount[0]).is_file()] == []
    assert {mount[2] for mount in ours} == {"ro"}


def test_a_gpu_is_reserved_for_the_service_that_needs_one() -> None:
    """Like the CPU's but for image, device, port and resources."""
    cpu, gpu = services()["stamp"], services()["stamp-gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    differ = {key for key in cpu | gpu if cpu.get(key) != gpu.get(key)}

    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu["environment"] == cpu["environment"] | {"STAMP_DEVICE": "cuda"}
    assert differ == {"profiles", "image", "build", "environment", "ports", "deploy"}


def test_every_secret_is_a_file_and_used() -> None:
    """None is a variable, and `scripts/secrets.sh` makes each."""
    overlay = compose(OVERLAY)
    used = {secret for one in overlay["services"].values() for secret in one.get("secrets", [])}
    script = (ROOT / "scripts" / "secrets.sh").read_text(encoding="utf-8")

    assert used == overlay["secrets"].keys()
    assert {secret: secret_file["file"] for secret, secret_file in overlay["secrets"].items()} == {
        secret: f"./secrets/{secret}" for secret in used
    }
    assert set(re.findall(r"^keep (\w+) ", script, flags=re.MULTILINE)) == used


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    """The provider's folder is where the dashboard is mounted, the source is the service's name."""
    (source,) = yaml.safe_load((GRAFANA / "datasources.yml").read_text("utf-8"))["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "dashboards.yml").read_text("utf-8"))["providers"]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert home.startswith(provider["options"]["path"])
    assert mounted_at("grafana", home).name == "grafana-dashboard.json"


def test_prometheus_scrapes_the_service_by_its_name() -> None:
    """With the rules beside its configuration."""
    config = yaml.safe_load(mounted_at("prometheus", "/etc/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]

    assert target.split(":")[0] in services()
    assert mounted_at("prometheus", "/etc/prometheus/alerts.yml").name == config["rule_files"][0]
