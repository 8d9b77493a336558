"""A PostgreSQL server of its own, from Debian's package or what is on the PATH."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from support import wait_until

#: PostgreSQL refuses to run as root: root starts it as the first of these that exists.
USERS = ("postgres", "nobody")


def find_programs() -> Path | None:
    """Return the folder of the server's programs; Debian's is not on the PATH."""
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=_version)


def _version(folder):
    return int(folder.parent.name)


class Postgres:
    """A server that listens on a socket in `folder` alone, ready when entered."""

    def __init__(self, programs: Path, superuser: str) -> None:
        self._programs = programs
        self._superuser = superuser

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="segment-postgres-"))
        self._account = {}
        if os.getuid() == 0:
            user = _first_user()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = self.folder / "data"
        made = ("--auth=trust", "--no-sync", "--encoding=UTF8", f"--username={self._superuser}")
        self._run("initdb", f"--pgdata={data}", *made)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", data, "-k", self.folder),
                    *("-c", "listen_addresses=", "-c", "fsync=off"),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._account,
            )
        wait_until(self._is_ready, message="PostgreSQL did not start")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self.folder)

    def _is_ready(self):
        assert self._process.poll() is None, (self.folder / "log").read_text()
        asked = [self._programs / "pg_isready", "--quiet", f"--host={self.folder}"]
        return subprocess.run(asked, check=False).returncode == 0

    def _run(self, program, *options):
        command = [self._programs / program, *options]
        subprocess.run(
            command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, **self._account
        )


def _first_user():
    known = {user.pw_name: user for user in pwd.getpwall()}
    return next(known[name] for name in USERS if name in known)
