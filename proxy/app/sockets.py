"""Listening sockets: bound once by the supervisor, inherited by whoever accepts on them."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path
from typing import Final

__all__ = ["listen", "listen_unix", "short_path", "url_of"]

_BACKLOG: Final = 4096
_LONGEST_PATH: Final = 100
_PATIENCE_S: Final = 3.0
_STEP_S: Final = 0.05
_MAY_COME: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, socket.EAI_AGAIN})
"""An earlier process may be about to close, an interface or a name server about to come up."""
_REMEDIES: Final = {
    errno.EADDRINUSE: "; stop what listens there, or choose another port",
    errno.EACCES: "; choose a port of 1024 or more, or give the process CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "; choose an address of this machine",
}


def listen(host: str, port: int, table: str, *, patience_s: float | None = None) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. `table` is the configuration's, for the message of an OSError.

    An address in use is tried again for `patience_s`, three seconds unless told otherwise: after a `kill -9` of a
    supervisor its workers may still be about to close theirs. It also keeps a manager that starts us again and again
    within its limits.
    """
    patience_s = _PATIENCE_S if patience_s is None else patience_s
    for attempt in range(int(patience_s / _STEP_S), -1, -1):
        try:
            return _bind(host, port)
        except OSError as exc:
            if exc.errno in _MAY_COME and attempt:
                time.sleep(_STEP_S)
                continue
            if isinstance(exc, socket.gaierror):
                raise OSError(f"{table}.host {host!r} is not an address of this machine: {exc}") from exc
            kind = PermissionError if exc.errno == errno.EACCES else OSError
            raise kind(f"cannot listen on {host} port {port} ({table}.host, {table}.port): "
                          f"{exc.strerror}{_REMEDIES.get(exc.errno or 0, '')}") from exc  # fmt: skip
    raise AssertionError("unreachable: the last attempt returns or raises")


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def listen_unix(path: Path) -> socket.socket:
    """A listening Unix socket at `path`, for this user only; an earlier one there is replaced. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def short_path(path: Path) -> Path:
    """`path`, or another name of it, good in this process, that fits into a socket's address (108 bytes)."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    return Path(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)}") / path.name


def url_of(sock: socket.socket, scheme: str) -> str:
    """Where a client on this machine reaches the socket."""
    host, port = sock.getsockname()[:2]
    if sock.family == socket.AF_INET6:
        host = f"[{host if host != '::' else '::1'}]"
    elif host == "0.0.0.0":
        host = "127.0.0.1"
    return f"{scheme}://{host}:{port}"
