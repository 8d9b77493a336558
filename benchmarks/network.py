"""Hosts as network namespaces, each of which reaches this one through links with a latency.

A link is a pair of TUN devices, one here and one in the namespace, between which a process of its
own carries the packets. It holds each for half of the round trip's time. So TCP meets the latency
as on a real network: in its handshake, its window and its acknowledgements. ``tc netem`` would do
the same, but many kernels lack it.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Host", "why_not"]

_TUN = Path("/dev/net/tun")
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU = 1_500
#: The network of benchmarks (RFC 2544): a link has four addresses of it.
_NETWORK = "198.18.0.{}"
_NUMBERS = count()


def why_not() -> str:
    """Return why there can be no such hosts; "" where there can."""
    if os.geteuid() != 0:
        return "Network namespaces need root."
    ip = shutil.which("ip")
    if ip is None:
        return "There is no `ip` (iproute2) on the PATH."
    if not _TUN.exists():
        return f"There is no {_TUN}."
    made = subprocess.run(
        [ip, "netns", "add", _name("try")], capture_output=True, text=True, check=False
    )
    if made.returncode:
        return f"Network namespaces are not permitted: {made.stderr.strip()}"
    _ip("netns", "del", _name("try"))
    return ""


class Host(ExitStack):
    """A namespace, which exists during a ``with`` block.

    Attributes:
        prefix: What makes a command run in it.
    """

    def __enter__(self) -> Self:
        self.name = _name(f"host{next(_NUMBERS)}")
        _ip("netns", "add", self.name)
        self.callback(_ip, "netns", "del", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        self.prefix = ("ip", "netns", "exec", self.name)
        return self

    def link(self, round_trip: float) -> Link:
        """Reach this host through a link of so many seconds."""
        return self.enter_context(Link(self.name, round_trip))


class Link:
    """A link between this host and a namespace.

    Attributes:
        here: The address of this host on it.
        pid: The process that carries its packets.
    """

    def __init__(self, namespace: str, round_trip: float) -> None:
        self._namespace, self._round_trip = namespace, round_trip

    def __enter__(self) -> Self:
        number = next(_NUMBERS)
        near, far = _name(f"a{number}"), _name(f"b{number}")
        self.here, there = (_NETWORK.format(4 * number + n) for n in (1, 2))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.network", near, far, str(self._round_trip / 2)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        _ip("link", "set", far, "netns", self._namespace)
        for device, own, other, where in (
            (near, self.here, there, ()),
            (far, there, self.here, ("-n", self._namespace)),
        ):
            _ip(*where, "addr", "add", own, "peer", other, "dev", device)
            _ip(*where, "link", "set", device, "mtu", str(_MTU), "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _name(what: str) -> str:
    return f"cs{os.getpid()}{what}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S607 - as the system has it


def _open(name: str) -> int:
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def carry(near: int, far: int, seconds: float) -> None:
    """Carry packets between two devices, for ever; each arrives so many seconds later."""
    to = {near: far, far: near}
    waiting: deque[tuple[float, int, bytes]] = deque()
    poll = select.epoll()
    for device in to:
        poll.register(device, select.EPOLLIN)
    while True:
        wait = waiting[0][0] - time.monotonic() if waiting else -1
        for device, _ in poll.poll(max(wait, 0) if waiting else -1):
            due = time.monotonic() + seconds
            try:
                while True:
                    waiting.append((due, to[device], os.read(device, _MTU)))
            except BlockingIOError:
                pass
            except OSError:  # the device is not up yet
                time.sleep(0.001)
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, device, packet = waiting.popleft()
            try:
                os.write(device, packet)
            except OSError:  # the device is down
                continue


if __name__ == "__main__":
    devices = [_open(name) for name in sys.argv[1:3]]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    carry(*devices, float(sys.argv[3]))
