"""A real RabbitMQ of the tests' own: its own port, folder, cookie and port mapper."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from amqp.exceptions import AMQPError
from kombu import Connection

from support import Absent, free_port, wait_until

#: Where Debian has the script itself. The one that its PATH has runs it as the system's service,
#: under another user and in the service's folders.
DEBIAN = "/usr/lib/rabbitmq/bin"
#: Seconds until a node answers: it starts a virtual machine and some twenty applications.
START = 60.0


def find_rabbitmq() -> str | None:
    """Return the path of rabbitmq-server; None where there is none that can run."""
    server = shutil.which("rabbitmq-server", path=DEBIAN) or shutil.which("rabbitmq-server")
    return server if shutil.which("epmd") and shutil.which("erl") else None


class Rabbit:
    """A RabbitMQ node on this host, which answers once it is entered.

    Raises:
        Absent: There is no RabbitMQ that can run.
    """

    def __init__(self) -> None:
        self._server = find_rabbitmq()
        self._stack = contextlib.ExitStack()
        self.port = free_port()

    @property
    def url(self) -> str:
        """The broker's URL."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Return the URL at another port, of a proxy."""
        return f"amqp://guest:guest@127.0.0.1:{port}//"

    def __enter__(self):
        if self._server is None:
            raise Absent("there is no RabbitMQ: apt-get install rabbitmq-server")
        with self._stack:  # where it does not start, its processes end
            self._start_node()
            self._stack = self._stack.pop_all()
        return self

    def _start_node(self):
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._folder = Path(self._stack.enter_context(folder))
        mapper = str(free_port())
        self._environ = {
            **os.environ,
            "HOME": str(self._folder),  # where the cookie is
            "ERL_EPMD_PORT": mapper,
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
        }
        (self._folder / "rabbitmq.conf").write_text("loopback_users = none\n")
        self._start([shutil.which("epmd"), "-port", mapper, "-address", "127.0.0.1"])
        self.restart()

    def __exit__(self, *_):
        self._stack.close()

    def stop(self) -> None:
        """Stop the node. A kill could lose a queue that was declared within the last seconds."""
        self._node.terminate()
        self._node.wait(START)

    def restart(self) -> None:
        """Start the node, with what it has on the disk."""
        self._node = node = self._start([self._server])
        wait_until(lambda: self._answers(node), START, "RabbitMQ does not answer")

    def count(self, queue: str) -> int:
        """Return how many messages of a queue wait for a consumer."""
        with Connection(self.url) as connection:
            return connection.default_channel.queue_declare(queue, passive=True).message_count

    @contextlib.contextmanager
    def blocked(self):
        """Have the node block its publishers, as it does without memory."""
        self._control("set_vm_memory_high_watermark", "absolute", "1")
        try:
            yield
        finally:
            self._control("set_vm_memory_high_watermark", "0.4")

    def _control(self, *arguments) -> None:
        program = str(Path(self._server).with_name("rabbitmqctl"))
        name = self._environ["RABBITMQ_NODENAME"]
        subprocess.run(
            [program, "-n", name, *arguments],
            env=self._environ,
            cwd=self._folder,
            check=True,
            capture_output=True,
        )

    def _start(self, command) -> subprocess.Popen:
        """Start a process of the node, which is killed at the end with its children."""
        with (self._folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self._environ,
                cwd=self._folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._stack.callback(_kill, process)
        return process

    def _answers(self, node) -> bool:
        output = (self._folder / "output").read_text(errors="replace")
        assert node.poll() is None, f"RabbitMQ ended:\n{output[-3000:]}"
        try:
            with Connection(self.url, connect_timeout=5) as connection:
                return connection.connect().connected
        except (OSError, AMQPError):
            return False


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
