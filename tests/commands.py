"""What the tests of the commands share: a command run in this process, or as users run it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

from celery.bin.base import CLIContext
from click.testing import CliRunner

from celery_segment_cli import segment
from support import DEFAULTS, TESTS, WRITE_KEY


def run(app, *args, answer=None):
    """Run a command in this process; no output of any shows a write key."""
    context = CLIContext(app=app, no_color=False, workdir=None)
    result = CliRunner().invoke(
        segment, args, obj=context, input=answer, catch_exceptions=False, prog_name="segment"
    )
    assert WRITE_KEY not in result.output
    assert "\x1b" not in result.output
    return result


def ok(app, *args, **options):
    """Run a command that succeeds, and return what it printed."""
    result = run(app, *args, **options)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(app, *args, **options):
    """Run a command that fails, and return what it said on stderr."""
    result = run(app, *args, **options)
    assert result.exit_code == 1, result.output
    return result.stderr


def command(*args):
    return [sys.executable, "-W", "error", "-m", "celery", *args]


def environ(**conf):
    """Return the environment of a process of the application in `workerapp`."""
    return {
        **os.environ,
        "TESTS_CONF": json.dumps({**DEFAULTS, **conf}),
        "PYTHONPATH": str(TESTS),
        "COLUMNS": "120",
        "TERM": "xterm",
    }


def process(args, env, cwd):
    """Run a command as users do; return it when it has ended."""
    done = subprocess.run(
        command(*args), env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert WRITE_KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


class Terminal:
    """A command that runs on a terminal of its own."""

    def __init__(self, args, env, cwd):
        self._end, theirs = pty.openpty()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        self.process = subprocess.Popen(command(*args), env=env, cwd=cwd, **streams)
        os.close(theirs)
        self.output = ""

    def __enter__(self):
        return self

    def read(self, text=None):
        """Read on until a text is shown, or to the end."""
        while text is None or text not in self.output:
            if not self.read_more():
                assert text is None, f"{text!r} is not in {self.output!r}"
                break
        return self.output

    def read_more(self):
        """Read what is shown next; return False at the end."""
        try:
            data = os.read(self._end, 65_536)
        except OSError:  # how Linux says that the other end was closed
            data = b""
        self.output += data.decode()
        return bool(data)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._end)
