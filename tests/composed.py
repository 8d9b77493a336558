"""What `docker compose` makes of docker-compose.yml, with processes in place of containers.

Each runs the command of its service with the environment of its service. Only where a container
has something of its own, the process gets another: a free port of this machine for the
container's, 127.0.0.1 for the name of a service, folders for the places of the image and of the
volumes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import yaml

from celery_segment.testing.redis import find_server
from support import free_port, wait_until

ROOT = Path(__file__).parents[1]
#: The ENTRYPOINT and the WORKDIR of the images: what they run, and where.
IMAGES = {
    "celery-segment": ([], "/app"),
    "redis": ([], "/data"),
    "prom/prometheus": (["prometheus"], "/prometheus"),
}


# ---------------------------------------------------------------- the file


def loaded(environ):
    """Return the file as Compose reads it: its variables are in their places."""
    return _interpolated(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), environ)


def _interpolated(value, environ):
    match value:
        case dict():
            return {key: _interpolated(each, environ) for key, each in value.items()}
        case list():
            return [_interpolated(each, environ) for each in value]
        case str():
            return re.sub(r"\$(\$|\{(\w+)(:[-?])?([^}]*)\}|)", lambda m: _one(m, environ), value)
    return value


def _one(found, environ):
    dollar, name, operator, word = found.groups()
    if dollar == "$":
        return "$"
    assert operator, f"{found[0]} says not what holds where it is not set"
    if operator == ":?" and not environ.get(name):
        raise KeyError(word)
    return environ.get(name) or word


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def port_of(service) -> int:
    """Return the port that a service listens on in its container."""
    (port,) = [*service.get("ports", ()), *service.get("expose", ())]
    return int(port.rpartition(":")[2])


# ---------------------------------------------------------------- the image


def instructions():
    """Return the Dockerfile's stages, each a list of instructions and what they are given."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stages = []
    for line in lines:
        name, given = line.split(maxsplit=1)
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, given))
    return stages


def copied(stage):
    """Return the sources and the target of each COPY from the build's context."""
    for name, given in stage:
        if name == "COPY" and not given.startswith("--from="):
            *sources, target = given.split()
            yield sources, target


def in_context(path: Path) -> bool:
    """Whether .dockerignore lets a file in: the last line says so that matches it or its folder."""
    inside = path.relative_to(ROOT)
    let_in = True
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        anywhere, name = pattern.startswith("**/"), pattern.removeprefix("**/")
        places = inside.parts if anywhere else map(str, (inside, *inside.parents))
        if any(fnmatch(place, name) for place in places):
            let_in = line.startswith("!")
    return let_in


def build(folder: Path) -> None:
    """Lay out what the final image has beside the installed library."""
    *_, final = instructions()
    workdir = folder
    for name, given in final:
        if name == "WORKDIR":
            workdir = folder / given.lstrip("/")
    for sources, target in copied(final):
        for source in map(ROOT.joinpath, sources):
            files = [f for f in (source, *source.rglob("*")) if f.is_file() and in_context(f)]
            assert files, f"nothing of {source} is in the context"
            for file in files:
                inside = file.relative_to(source if source.is_dir() else source.parent)
                place = workdir / target / inside
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)


# ---------------------------------------------------------------- the services


class Composed:
    """The services of the file, run as processes."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.services = loaded(environ)["services"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {n: free_port() for n, s in self.services.items() if n != "worker"}
        self._home = folder / "home"
        self._home.mkdir()
        self._programs = folder / "bin"
        build(folder / "image")
        self._provide_programs()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def up(self, *names: str) -> None:
        """Start what does not run of these services, and wait until each is healthy."""
        for name in names:
            if name in self.processes and self.processes[name].poll() is None:
                continue
            for needed, condition in self.services[name].get("depends_on", {}).items():
                assert condition == {"condition": "service_healthy"}
                self._wait_healthy(needed)
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [*self._image(name)[0], *self._here(name, self.services[name]["command"])],
                    **self._surroundings(name),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        for name in names:
            self._wait_healthy(name)

    def _wait_healthy(self, name: str) -> None:
        def healthy():
            assert self.processes[name].poll() is None, f"{name} ended:\n{self.log(name)[-3000:]}"
            return self.health(name)

        wait_until(healthy, 60, f"{name} is not healthy")

    def health(self, name: str, **environ: str) -> bool:
        """Run a service's health check, as Docker does within its container."""
        check = self.services[name]["healthcheck"]
        kind, *command = check["test"]
        assert kind in {"CMD", "CMD-SHELL"}
        command = [*(["sh", "-c"] if kind == "CMD-SHELL" else []), *self._here(name, command)]
        surroundings = self._surroundings(name, environ)
        try:
            done = subprocess.run(
                command,
                **surroundings,
                capture_output=True,
                timeout=seconds(check["timeout"]),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def execute(self, name: str, *command: str) -> str:
        """Run a command as `docker compose exec` does, and return what it prints."""
        return subprocess.run(
            command,
            **self._surroundings(name),
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout

    def stop(self, name: str) -> int:
        """Stop a service as `docker compose stop` does: it has its time, and no more."""
        process = self.processes[name]
        process.terminate()
        return process.wait(seconds(self.services[name].get("stop_grace_period", "10s")))

    # ------------------------------------------------------------ in place of a container

    def _provide_programs(self) -> None:
        self._programs.mkdir()
        server = Path(find_server())
        client = shutil.which("redis-cli", path=f"{server.parent}:{os.environ['PATH']}")
        assert client, "there is no redis-cli beside redis-server"
        (self._programs / "redis-server").symlink_to(server)
        (self._programs / "redis-cli").symlink_to(client)

    def _surroundings(self, name: str, more=()) -> dict:
        given = self.services[name].get("environment", {})
        path = [str(self._programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        env = {"PATH": os.pathsep.join(path), "HOME": str(self._home), **given, **dict(more)}
        cwd = self._here(name, self.services[name].get("working_dir", self._image(name)[1]))
        return {"env": {key: self._here(name, value) for key, value in env.items()}, "cwd": cwd}

    def _image(self, name: str):
        return IMAGES[self.services[name].get("image", "celery-segment").partition(":")[0]]

    def _here(self, name: str, text):
        """Return a text of a service with what is this machine's for what is its container's."""
        if isinstance(text, list):
            return [self._here(name, each) for each in text]
        text = self._with_services(text).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        if name in self._ports:
            port = port_of(self.services[name])
            text = re.sub(rf"\b{port}\b", str(self._ports[name]), text)
        for inside, outside in self._places(name).items():
            text = re.sub(rf"(?<![\w/]){inside}\b", str(outside), text)
        return text

    def _with_services(self, text: str) -> str:
        for other, port in self._ports.items():
            inside = port_of(self.services[other])
            text = re.sub(rf"\b{other}:{inside}\b", f"127.0.0.1:{port}", text)
        return text

    def _places(self, name: str) -> dict[str, Path]:
        """Return the folders that stand for the image's own and for what is mounted."""
        places = {"/app": self.folder / "image/app"}
        for volume in self.services[name].get("volumes", ()):
            source, target = volume.split(":")[:2]
            places[target] = self.folder / "volumes" / source.lstrip("./")
            if not places[target].exists():
                self._mount(source, places[target])
        return places

    def _mount(self, source: str, place: Path) -> None:
        place.mkdir(parents=True)
        if source.startswith("./"):
            for file in (ROOT / source).iterdir():
                (place / file.name).write_text(self._with_services(file.read_text()))
