"""Where an answer says that something else is: URLs of the model's own server become ours.

A server builds `Location`, `Content-Location` and `Refresh` from the Host that it was given, which is its own. A client
that followed them would leave us: its next request would be in nobody's log, or would not get through at all. So what
names the origin of the model that answered, below its path, is written as a path, which a client reads against the
address that it knows; whatever else is named stays as it is.
"""

from __future__ import annotations

import re
from copy import copy
from typing import Final

from proxy.gateway.backend import Backend
from proxy.gateway.head_cache import KnownResponse

__all__ = ["at_home", "homeward"]

_URL: Final = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.\-]*):)?//([^/?#\\]*)(.*)", re.DOTALL)
_AUTHORITY: Final = re.compile(rb"(\[[^\]@]*\]|[^:@\[\]]*)(?::(\d{0,9}))?")
_LINE: Final = re.compile(rb"(?i)((?:content-)?location:[ \t]*)(.*)", re.DOTALL)
_REFRESH: Final = re.compile(
    rb"(?i)(refresh:[ \t]*[\d.]*[ \t]*[;,]?[ \t]*(?:url[ \t]*=[ \t]*)?[\"']?)([^\"']*)(.*)", re.DOTALL
)
_PORTS: Final = {b"http": 80, b"https": 443}


def at_home(response: KnownResponse, backend: Backend) -> KnownResponse:
    """The head that `backend` sent, as the client is to see it."""
    lines = [_homeward_line(line, backend) for line in response.head.lines]
    if lines == response.head.lines:
        return response
    head = copy(response.head)
    head.lines = lines
    moved = KnownResponse(head)
    moved.varies = response.varies
    return moved


def homeward(url: bytes, backend: Backend) -> bytes:
    """`url` as a path below our own address where it names `backend`, else as it is."""
    match = _URL.fullmatch(url)
    if match is not None:
        own = b"https" if backend.pool.address.tls else b"http"
        if _origin(match[1] or own, match[2]) != _origin(own, backend.host_line.partition(b": ")[2]):
            return url
        path = match[3] if match[3].startswith(b"/") else b"/" + match[3]
    elif url.startswith(b"/") and backend.prefix:
        path = url
    else:
        return url
    if backend.prefix:
        below = path[len(backend.prefix) :]
        if not path.startswith(backend.prefix) or below[:1] not in (b"", b"/", b"?", b"#"):
            return url
        path = below if below.startswith(b"/") else b"/" + below
    if path[1:].lstrip(b"\t")[:1] in (b"/", b"\\"):  # `//host` would name another host
        path = b"/." + path
    return path


def _homeward_line(line: bytes, backend: Backend) -> bytes:
    match = _LINE.fullmatch(line)
    if match is not None:
        return match[1] + homeward(match[2], backend)
    match = _REFRESH.fullmatch(line)
    if match is not None:
        return match[1] + homeward(match[2], backend) + match[3]
    return line


def _origin(scheme: bytes, authority: bytes) -> tuple[bytes, bytes, int] | None:
    """Scheme, host and port; None for what is no address of a web server, or has a user name in it."""
    scheme = scheme.lower()
    match = _AUTHORITY.fullmatch(authority)
    if match is None or scheme not in _PORTS:
        return None
    return scheme, match[1].lower(), int(match[2] or _PORTS[scheme])
