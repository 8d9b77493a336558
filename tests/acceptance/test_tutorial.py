"""docs/tutorial.md, followed word for word in an empty folder.

A block of Python is the file that its first line names, and one of JSON the file that the page
named last. In the other blocks a line behind `$` or `>>>` is typed in the terminal that the page
named last, and the lines below it must then be seen there: `…` stands for anything, alone on its
line for any lines.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from support import TESTS, free_port, wait_until

ROOT = TESTS.parent
PAGE = (ROOT / "docs/tutorial.md").read_text("utf-8")
#: Where another process of this machine may listen as well.
PORTS = ("6399", "8765", "5555")
#: The heading under which the page ends what it started.
END = "## Clean up"
REDIS = {"redis-server", "valkey-server"}


class Terminal:
    """A shell in a folder: what is typed there, and what is seen."""

    def __init__(self, folder, log, environ):
        self._log, self._read, self._commands = log, 0, 0
        with log.open("wb") as output:
            self._shell = subprocess.Popen(
                [shutil.which("bash")],  # reads no further than a line, unlike some
                cwd=folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self):
        return self._log.read_text("utf-8", errors="replace")

    @property
    def processes(self):
        return psutil.Process(self._shell.pid).children(recursive=True)

    def type(self, prompt, line):
        if prompt == "$":
            self.wait_ended()
            self._commands += 1
            # On the same line: what is typed next may be for the program that it starts.
            line = f'{line}; echo "ended with $?"'
        self._read = len(self.output)
        self._shell.stdin.write(f"{line}\n".encode())
        self._shell.stdin.flush()

    def see(self, lines):
        shown = re.compile("".join(map(pattern, lines)))
        try:
            seen = wait_until(lambda: shown.match(self.output, self._read), 60)
        except AssertionError:
            page, found = "\n".join(lines), self.output[self._read :]
            pytest.fail(f"the page shows\n{page}\nand there is\n{found}", pytrace=False)
        self._read = seen.end()

    def wait_ended(self, *statuses):
        """Wait for what was typed to end, with these statuses besides 0."""
        ended = re.compile(r"^(?:>>> )*ended with (\d+)$", re.MULTILINE)
        wait_until(lambda: len(ended.findall(self.output)) == self._commands, 60, self._log)
        assert set(ended.findall(self.output)) <= {"0", *statuses}, self.output

    def interrupt(self):
        """Press Ctrl-C."""
        os.killpg(self._shell.pid, signal.SIGINT)

    def close(self):
        left = self.processes
        for process in left:
            process.kill()
        self._shell.kill()
        self._shell.communicate()
        psutil.wait_procs(left, 10)


def pattern(line):
    """Return what matches a line that the page shows, behind a prompt or not."""
    return "(?:.*\n)*?" if line == "…" else f"(?:>>> )*{words(line)}[ \t]*\n"


def words(text):
    """Return what matches a text of the page, whatever its `…` are and its spaces."""
    spaced = (re.sub(r"(\\ )+", "[ \t]+", re.escape(part)) for part in text.split("…"))
    return ".*".join(spaced)


def steps(page):
    """Return what the page has a reader do: files to save, and for each terminal its blocks."""
    terminal = file = None
    parts = r"\*\*(\w+) terminal\*\*|`(\w+\.json)`|^```(\w+)\n(.*?)^```$"
    for part in re.finditer(parts, page, re.MULTILINE | re.DOTALL):
        named, json, kind, text = part.groups()
        if named:
            terminal = named
        elif json:
            file = json
        elif kind == "json":
            yield file, text
        elif kind == "python":
            yield re.match(r"# (\w+\.py)\n", text)[1], text
        else:
            assert kind in {"console", "pycon"}
            yield terminal, text.splitlines()


def typed(lines):
    """Return a block's lines by what is typed: prompt, line, and what is to be seen then."""
    found = [(None, None, [])]
    for line in lines:
        if prompt := re.match(r"(\$|>>>) (.*)", line):
            found.append((*prompt.groups(), []))
        else:
            found[-1][2].append(line)
    return found[0 if found[0][2] else 1 :]


def rows(page):
    """Return the rows of the page's table."""
    table = re.findall(r"^\| (segment\..*) \|$", page, re.MULTILINE)
    return [row.split(" | ") for row in table]


@pytest.fixture
def wheels(tmp_path):
    """A folder with the library's wheel, where pip looks as well."""
    folder = tmp_path / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def programs(tmp_path):
    """The PATH of a machine without a Redis."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "python3").symlink_to(sys._base_executable)
    for place in map(Path, os.get_exec_path()):
        for program in place.iterdir() if place.is_dir() else ():
            name = folder / program.name
            if program.name not in REDIS and not name.is_symlink():
                name.symlink_to(program)
    return folder


@pytest.fixture
def terminals(tmp_path, wheels, programs):
    """Four terminals of a reader whose environment knows nothing of Celery."""
    foreign = ("CELERY", "FLOWER", "SEGMENT", "PYTHON", "VIRTUAL_ENV", "COLUMNS")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environ["PIP_FIND_LINKS"] = f"{wheels} {environ.get('PIP_FIND_LINKS', '')}"
    environ["PATH"] = str(programs)
    folder = tmp_path / "empty"
    folder.mkdir()
    opened = {
        name: Terminal(folder, tmp_path / f"{name}.log", environ)
        for name in ("first", "second", "third", "fourth")
    }
    yield folder, opened
    for terminal in opened.values():
        terminal.close()


def follow(page, folder, terminals):
    for where, what in steps(page):
        if where.endswith((".py", ".json")):
            (folder / where).write_text(what, "utf-8")
            continue
        for prompt, line, shown in typed(what):
            if prompt:
                terminals[where].type(prompt, without_ensurepip(line))
            if shown:
                terminals[where].see(shown)


def without_ensurepip(line):
    """Return a command as it is typed; on a Debian without python3-venv, what comes to the same."""
    if line != "python3 -m venv .venv" or importlib.util.find_spec("ensurepip"):
        return line
    pip = f"{sys.executable} -m pip --python .venv/bin/python install -q pip"
    return f"python3 -m venv --without-pip .venv && {pip}"


def flower_tasks(address):
    """Return the tasks that Flower's page loads, as it shows them."""
    asked = {"draw": 1, "start": 0, "length": 100, "search[value]": "", "columns[0][data]": "name"}
    asked |= {"order[0][column]": 0, "order[0][dir]": "asc"}
    return requests.get(f"{address}/datatable", asked, timeout=10).json()["data"]


def arrived(page):
    """Return the page that shows what has arrived."""
    (address,) = re.findall(r"Open <(http://127\.0\.0\.1:\d+)>", page)
    return requests.get(address, timeout=10).text


def check_debugger(page):
    """Look at what has arrived."""
    (address,) = re.findall(r"Open <(http://127\.0\.0\.1:\d+)>", page)
    shown = arrived(page)
    assert len(re.findall('class="name">.*Item Purchased', shown)) == 6
    messages = requests.get(f"{address}/api/messages", timeout=10).json()["messages"]
    assert {message["accepted"] for message in messages} == {1}
    assert max(message["arrivals"] for message in messages) > 2


def find(row, tasks):
    name, state, kwargs, result = row
    if state == "FAILURE":
        # On a slow machine the drain leaves the last half of the batch to another task.
        name, kwargs = "segment.…", f"{kwargs}…"
    shown = [re.compile(words(cell)) for cell in (name, state, kwargs, result)]
    return [
        task
        for task in tasks
        if all(
            cell.fullmatch(task[name])
            for cell, name in zip(shown, ("name", "state", "kwargs", "result"), strict=True)
        )
    ]


def test_the_tutorial_ends_where_it_says(terminals):
    folder, opened = terminals
    page = PAGE
    for port in PORTS:
        assert port in page
        page = page.replace(port, str(free_port()))
    page, end = page.split(END)
    follow(page, folder, opened)
    opened["first"].wait_ended()
    wait_until(lambda: "6 messages" in arrived(page))
    check_debugger(page)

    (address,) = re.findall(r"<(http://127\.0\.0\.1:\d+/tasks)>", page)
    table = rows(page)
    assert {row[1] for row in table} == {"SUCCESS", "FAILURE"}
    tasks = wait_until(
        lambda: all(find(row, tasks := flower_tasks(address)) for row in table) and tasks
    )
    (retried,) = find(table[1], tasks)
    assert retried["retries"] == 2
    assert f"`{retried['exception']}`" in page
    assert not any(secret in repr(tasks) for secret in ("anything", "maria", "teapot"))

    processes = [process for terminal in opened.values() for process in terminal.processes]
    (redis,) = (process for process in processes if process.name() == "redis-server")
    assert Path(redis.exe()).is_relative_to(folder / ".venv")
    for name in re.findall(r"\*\*(\w+) terminal\*\*", end.partition(". ")[0]):
        opened[name].interrupt()
        opened[name].wait_ended("1")  # Celery's of a worker that Ctrl-C ended
    follow(end, folder, opened)
    _, left = psutil.wait_procs(processes, 20)
    assert not left
