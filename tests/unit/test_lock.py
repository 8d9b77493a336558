"""requirements.lock has what the image needs, as pyproject.toml allows it, with hashes."""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info < (3, 11):
    import tomli as tomllib
else:
    import tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
#: Where the image runs.
IMAGE = {"platform_system": "Linux", "sys_platform": "linux", "python_version": "3.12"}


def locked():
    """The versions by the packages' names; each has a hash, and nothing but packages is there."""
    found = {}
    for entry in re.split(r"\n(?=\S)", re.sub(r"^ *#.*\n", "", LOCK, flags=re.MULTILINE).strip()):
        first, *hashes = (line.strip(" \\") for line in entry.splitlines())
        name, version = re.fullmatch(r"([a-z0-9.-]+)==([^ ;]+)", first).groups()
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name
        found[canonicalize_name(name)] = version
    return found


def extras_of_the_image():
    (extras,) = re.findall(r"^IMAGE = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return extras.split()


def needed():
    texts = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["image"]]
    for extra in extras_of_the_image():
        texts += PROJECT["project"]["optional-dependencies"][extra]
    for requirement in map(Requirement, texts):
        if applies(requirement):
            yield requirement
            yield from of_extras(requirement)


def of_extras(requirement):
    """What the extras of a requirement need, such as redis[hiredis]."""
    for extra in requirement.extras:
        for each in map(Requirement, requires(requirement.name)):
            if not applies(each) and applies(each, extra):
                yield each


def applies(requirement, extra=""):
    environment = {**IMAGE, "platform_machine": "x86_64", "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("requirement", list(needed()), ids=str)
def test_each_requirement_is_locked_at_a_version_that_it_allows(requirement):
    version = locked()[canonicalize_name(requirement.name)]
    assert version in requirement.specifier


def test_a_worker_of_the_image_can_sign_for_oauth():
    assert "oauth" in extras_of_the_image()
    assert {"pyjwt", "cryptography"} <= locked().keys()


def test_the_image_has_what_is_locked_and_nothing_else():
    installs = re.findall(r"pip .* install (.*)", DOCKERFILE.replace("\\\n", ""))
    options = [install.replace("--no-cache-dir", "").split() for install in installs]
    assert options == [["--require-hashes", "-r", "requirements.lock"], ["--no-deps", "."]]
    python = set(re.findall(r"^FROM python:(\d\.\d+)", DOCKERFILE, re.MULTILINE))
    assert python == set(re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text()))
    assert python == {IMAGE["python_version"]}
