"""Hosts as network namespaces: each with addresses, process ids and a /proc of its own, on one machine.

Two networks join them, as bridges here: `front`, with clients and models on it, and `back`, with the database, from
which one host can be cut off. Addresses are of 198.18.0.0/15, which RFC 2544 keeps for tests like this one.

All of it is in a namespace that the test's own thread, and whatever it starts, moves into for that time: the machine's
network stays as it is. Otherwise a browser in another test would give up what it loads (`net::ERR_NETWORK_CHANGED`),
for Chromium does so whenever an address comes or goes on its machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Network", "can_make_networks", "network_of"]

_CLONE_NEWNET = 0x40000000


@functools.cache
def can_make_networks() -> bool:
    """Whether this machine lets us: it takes root, iproute2 and the right to make namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    try:
        with network_of(1) as network:
            subprocess.run([*network.inside(0), "true"], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Network:
    """Two bridges and `size` hosts. This process has the address .1 on both, host `n` has .(10 + n)."""

    name: str
    number: int
    size: int

    @property
    def front(self) -> str:
        """Our own address where clients and models are."""
        return f"198.18.{self.number}.1"

    @property
    def back(self) -> str:
        """Our own address where the database is."""
        return f"198.19.{self.number}.1"

    def front_of(self, host: int) -> str:
        """A host's address for clients."""
        return f"198.18.{self.number}.{10 + host}"

    def inside(self, host: int) -> list[str]:
        """Put before a command, it runs on that host: as its process 1, so that all ends with it."""
        namespace = ["ip", "netns", "exec", f"{self.name}h{host}"]
        return [*namespace, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]

    def cut(self, host: int) -> None:
        """Take the host's cable to the database out."""
        _ip("-n", f"{self.name}h{host}", "link", "set", "back", "down")

    def mend(self, host: int) -> None:
        """Put it in again."""
        _ip("-n", f"{self.name}h{host}", "link", "set", "back", "up")

    def make(self) -> None:
        """Raises CalledProcessError where the system says no."""
        for side, address in (("f", self.front), ("b", self.back)):
            _ip("link", "add", f"{self.name}{side}", "type", "bridge")
            _ip("addr", "add", f"{address}/24", "dev", f"{self.name}{side}")
            _ip("link", "set", f"{self.name}{side}", "up")
        for host in range(self.size):
            namespace = f"{self.name}h{host}"
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            for side, label, net in (("f", "front", 18), ("b", "back", 19)):
                cable = f"{self.name}{side}{host}"
                _ip("link", "add", cable, "type", "veth", "peer", "name", label, "netns", namespace)
                _ip("link", "set", cable, "master", f"{self.name}{side}", "up")
                _ip("-n", namespace, "addr", "add", f"198.{net}.{self.number}.{10 + host}/24", "dev", label)
                _ip("-n", namespace, "link", "set", label, "up")

    def remove(self) -> None:
        """All of it, also where only a part was made."""
        for host in range(self.size):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", f"{self.name}h{host}")
        for side in "fb":
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("link", "del", f"{self.name}{side}")


@contextlib.contextmanager
def network_of(size: int) -> Iterator[Network]:
    """So many hosts for the length of the block. Raises OSError or CalledProcessError where they cannot be had."""
    number = next(n for n in range(os.getpid() % 200, 250) if not os.path.exists(f"/run/netns/rt{n}h0"))
    network = Network(f"rt{number}", number, size)
    with _apart():
        try:
            network.make()
            yield network
        finally:
            network.remove()


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """This thread in a new network namespace; threads and processes that it starts meanwhile are in it, too.

    A thread from before is not: enter this before the first `asyncio.to_thread` of a test.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    machine = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _checked(libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            _ip("link", "set", "lo", "up")
            yield
        finally:
            _checked(libc.setns(machine, _CLONE_NEWNET), "setns")
    finally:
        os.close(machine)


def _checked(status: int, call: str) -> None:
    if status:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=120)
