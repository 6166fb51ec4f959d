"""The pods of deploy/kubernetes as plain containers, with what the pods may do and are given.

No cluster: an engine runs one container for each, on a network where services are found by name.
"""

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.deploy import manifests
from tests.deploy.manifests import BASE, ROOT
from tests.deploy.stack import free_port

IMAGES = {"stamp-service": "stamp-recommender:cpu", "stamp-train": "stamp-recommender:train"}
SIZES = {"Mi": "m", "Gi": "g"}


class Pods:
    """Containers under one prefix, gone at the end; `folder` gets secrets and config maps."""

    def __init__(self, folder: Path, recipe: str) -> None:
        self.folder = folder
        self.prefix = f"stamp-pods-{os.getpid()}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.variables = {"RECIPE": recipe, "STAMP_BUNDLE_DIR": f"/app/bundles/{recipe}"}
        self.templates = manifests.pods()

    def __enter__(self) -> Self:
        """Make what the pods mount, and their network."""
        secrets = self.folder / "stamp-secrets"
        made = {**os.environ, "SECRETS_DIR": str(secrets)}
        subprocess.run([ROOT / "scripts" / "secrets.sh"], env=made, check=True, capture_output=True)
        for entry in manifests.kustomization(BASE)["configMapGenerator"]:
            for file in entry.get("files", []):
                (self.folder / entry["name"]).mkdir(exist_ok=True)
                (self.folder / entry["name"] / file).write_bytes((BASE / file).read_bytes())
        docker("network", "create", self.prefix)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind but images."""
        mine = f"label=pods={self.prefix}"
        for name in docker("ps", "--all", "--quiet", "--filter", mine).split():
            docker("rm", "--force", "--volumes", name)
        docker("network", "rm", self.prefix)
        for volume in docker("volume", "ls", "--quiet", "--filter", f"name={self.prefix}").split():
            docker("volume", "rm", volume)

    def start(
        self,
        name: str,
        *,
        alias: str | None = None,
        init: bool = False,
        publish: bool = False,
        more: dict[str, str] | None = None,
    ) -> str:
        """Start a container of a pod, and return what the engine calls it.

        Args:
            name: of the pod's maker.
            alias: what the container is called, if not as in the pod.
            init: the one that runs first, not the pod's own.
            publish: whether `url` leads to it.
            more: variables beside those of the manifest.
        """
        pod = self.templates[name]
        (container,) = pod["spec"]["initContainers" if init else "containers"]
        called = f"{self.prefix}-{alias or container['name']}"
        command = container.get("command", [])
        docker(
            *("run", "--detach", "--name", called, "--label", f"pods={self.prefix}"),
            *("--network", self.prefix, "--network-alias", called if alias else name),
            *(["--publish", f"127.0.0.1:{self.port}:8000"] if publish else []),
            *self._confined(pod, container),
            *self._mounts(pod, container),
            *self._environment(container, more or {}),
            *(["--entrypoint", command[0]] if command else []),
            *[image_of(container), *command[1:]],
        )
        return called

    def wait(self, container: str) -> tuple[int, str]:
        """The exit code of a container that ends by itself, and what it printed."""
        code = int(docker("wait", container))
        return code, docker("logs", container)

    def probe(self, container: str, name: str) -> None:
        """Run a pod's startup command in its container until it holds, or AssertionError."""
        probe = self.templates[name]["spec"]["containers"][0]["startupProbe"]
        for _ in range(probe["failureThreshold"]):
            done = subprocess.run(
                ["docker", "exec", container, *probe["exec"]["command"]],  # noqa: S607
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return
            time.sleep(1)
        raise AssertionError(docker("logs", container))

    def _confined(self, pod: dict[str, Any], container: dict[str, Any]) -> list[str]:
        context = pod["spec"]["securityContext"]
        memory = container["resources"]["limits"]["memory"]
        return [
            *("--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--read-only"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--memory", memory[:-2] + SIZES[memory[-2:]]),
        ]

    def _mounts(self, pod: dict[str, Any], container: dict[str, Any]) -> list[str]:
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        flags = []
        for mount in container["volumeMounts"]:
            mode = ":ro" if mount.get("readOnly") else ""
            volume = volumes.get(mount["name"], {})
            if "emptyDir" in volume:
                flags += ["--tmpfs", mount["mountPath"]]
            elif "configMap" in volume:
                source = self.folder / volume["configMap"]["name"]
                flags += ["--volume", f"{source}:{mount['mountPath']}{mode}"]
            elif "secret" in volume:
                source = self.folder / volume["secret"]["secretName"]
                for item in volume["secret"]["items"]:
                    target = f"{mount['mountPath']}/{item['path']}"
                    flags += ["--volume", f"{source / item['key']}:{target}{mode}"]
            else:
                flags += ["--volume", f"{self.prefix}-{mount['name']}:{mount['mountPath']}{mode}"]
        return flags

    def _environment(self, container: dict[str, Any], more: dict[str, str]) -> list[str]:
        given = {one["name"]: one["value"] for one in container.get("env", [])}
        if "envFrom" in container:
            given |= manifests.settings()
        given |= {name: value for name, value in self.variables.items() if name in given} | more
        return [word for name, value in given.items() for word in ("--env", f"{name}={value}")]


def image_of(container: dict[str, Any]) -> str:
    """What an overlay would put in; VALKEY_IMAGE names another store, as for docker compose."""
    if container["name"] == "valkey":
        return os.environ.get("VALKEY_IMAGE", str(container["image"]))
    return IMAGES[container["image"]]


def docker(*words: str) -> str:
    """The engine's command line with these words, and what it printed."""
    done = subprocess.run(
        ["docker", *words],  # noqa: S607  # whichever docker there is
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()
