"""The manifests of deploy/kubernetes: as files, as kustomize renders them, and as processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from composed import ROOT, build

FOLDER = ROOT / "deploy/kubernetes"
BASE, EXAMPLE = FOLDER / "base", FOLDER / "overlays/example"
COMPONENTS = sorted((FOLDER / "components").iterdir())
#: What makes manifests of a kustomization, where one of them is on the PATH.
KUSTOMIZE = {"kustomize": ["build"], "kubectl": ["kustomize"]}

Manifest = dict[str, Any]


# ---------------------------------------------------------------- files


@cache
def load(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def kustomization(folder: Path) -> Manifest:
    (manifest,) = load(folder / "kustomization.yaml")
    return manifest


def named(folder: Path) -> list[Path]:
    """Return the files and folders that a kustomization names."""
    manifest = kustomization(folder)
    patches = [each["path"] for each in manifest.get("patches", ()) if "path" in each]
    names = [*manifest.get("resources", ()), *manifest.get("components", ()), *patches]
    return [(folder / name).resolve() for name in names]


def resources() -> dict[str, Manifest]:
    """Return the resources of the base and of all components, by kind and name."""
    files = [file for folder in (BASE, *COMPONENTS) for file in named(folder)]
    found = [each for file in files for each in load(file)]
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found}


def pod(name: str) -> Manifest:
    return resources()[f"Deployment {name}"]["spec"]["template"]["spec"]


def container(name: str) -> Manifest:
    (found,) = pod(name)["containers"]
    return found


def render(folder: Path) -> list[Manifest] | None:
    """Return what kustomize makes of a folder; None where there is none on the PATH."""
    program = next(filter(shutil.which, KUSTOMIZE), None)
    if program is None:
        return None
    command = [program, *KUSTOMIZE[program], str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


# ---------------------------------------------------------------- processes


class Container:
    """The container of a Deployment, run as a process in the environment that its pod gives it."""

    def __init__(self, folder: Path, name: str, secrets: dict[str, str], **environ: str) -> None:
        """Lay out its image.

        Args:
            folder: Where the image and the log are.
            name: The name of the Deployment.
            secrets: The Secret's keys and values.
            environ: What the ConfigMap has that is this machine's.
        """
        self._manifest = container(name)
        self._workdir = folder / "image/app"
        if not self._workdir.exists():
            build(folder / "image")
        (generated,) = kustomization(BASE)["configMapGenerator"]
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environ = {
            "PATH": programs,
            "HOME": str(folder),
            **dict(each.split("=", 1) for each in generated["literals"]),
            **environ,
            **self._secrets(secrets),
        }
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def _secrets(self, secrets: dict[str, str]) -> dict[str, str]:
        """Return what is in the Secret of what the container asks for."""
        asked = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in self._manifest["env"]}
        missing = {r["key"] for r in asked.values() if not r.get("optional")} - secrets.keys()
        assert not missing, "the pod would not start"
        return {name: secrets[r["key"]] for name, r in asked.items() if r["key"] in secrets}

    def start(self, **replaced: str) -> None:
        """Start it, with another text in place of some of its command's."""
        command = [replaced.get(text, text) for text in self._manifest["command"]]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=self._environ,
                cwd=self._workdir,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def output(self) -> str:
        return self._log.read_text("utf-8")

    def probe(self, kind: str) -> int | None:
        """Run a probe as the kubelet does; return its status, or None where it took too long."""
        probe = self._manifest[kind]
        try:
            done = subprocess.run(
                probe["exec"]["command"],
                env=self._environ,
                cwd=self._workdir,
                capture_output=True,
                timeout=probe["timeoutSeconds"],
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        return done.returncode
