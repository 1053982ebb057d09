"""The heads that go out: what of a message's head is ours to change, in one place.

Upstream: the target's prefix, Host, Content-Length where the body was rewritten, a credential where one is
configured, X-Forwarded-* and Via by setting. Downstream: the record id, Connection, Via by setting. Every other
line is the one that arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from policies.records import Arm
from proxy.config.serving import GatewayConfig
from proxy.gateway.head import FORBIDDEN_TRAILERS, RequestHead, ResponseHead

__all__ = ["CREDENTIALS", "CredentialLine", "Destination", "Peer", "copy_head", "copy_token", "kept_from_trailers",
           "request_head", "request_lines", "response_head", "response_lines", "side_request_head", "trailer_lines",
           "upgrade_response_head", "via_token"]  # fmt: skip

CREDENTIALS: Final = frozenset((b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"))
_FORWARDED: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
_SPEAK_FOR_ANOTHER: Final = frozenset((*_FORWARDED, b"forwarded", b"x-real-ip", b"via"))
_HEAD_ONLY: Final = CREDENTIALS | {b"cookie", b"proxy-authorization", b"forwarded", b"x-real-ip", b"via"}
"""Fields that say who asks and by which way: RFC 9110 §6.5.1 wants none of them behind a body."""


_SELF: Final = b"via"
_COPY: Final = b"copy"
_NOT_COPIED: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"trailer", b"expect", b"idempotency-key")
)
"""Framing, which is a copy's own; and the key by which a server that knows the request would repeat its answer."""


class CredentialLine(NamedTuple):
    """What lets us in at a server."""

    line: bytes
    """A whole line; empty: it needs none."""
    names: frozenset[bytes]
    """Fields that may carry the client's own credential, in lower case: they are left out."""


class Destination(Protocol):
    """What a head needs to know of the server that it goes to: proxy.gateway.backend.Backend."""

    prefix: bytes
    """The path of its URL, no slash at its end."""
    host_line: bytes
    credential: CredentialLine | None
    """Sent instead of the client's own; None: that is passed on."""


class Peer:
    """The client as a connection: its address and whether it came over TLS."""

    __slots__ = ("host", "tls")

    def __init__(self, host: bytes, *, tls: bool) -> None:
        self.host = host
        self.tls = tls


def request_head(
    head: RequestHead,
    backend: Destination,
    *,
    length: int | None = None,
    extra: Sequence[bytes] = (),
    expect: bool = False,
) -> bytes:
    """The head sent to `backend`. `length` replaces the number in Content-Length, where given.

    `extra`: whole lines without CRLF. `expect`: whether the server is to say `100 Continue`, or the body comes anyway.
    """
    lines = head.lines.copy()
    if head.host_at >= 0:
        lines[head.host_at] = backend.host_line
    if length is not None and head.length_at >= 0:
        lines[head.length_at] = b"%b: %d" % (lines[head.length_at].partition(b":")[0], length)
    if not expect and b"expect" in head.fields:
        lines = _without(lines, frozenset((b"expect",)))
    lines = _with_credential(lines, backend)
    if head.host_at < 0:
        lines.insert(0, backend.host_line)
    if head.upgrade:
        lines += (b"Connection: Upgrade", b"Upgrade: " + head.fields[b"upgrade"])
    target = head.target if head.target == b"*" else backend.prefix + head.target
    return b"\r\n".join((b"%b %b HTTP/1.1" % (head.method, target), *lines, *extra, b"", b""))


def copy_head(head: RequestHead, backend: Destination, *, length: int, extra: Sequence[bytes]) -> bytes:
    """The head of a copy of a request whose whole body, `length` bytes, follows it: what an arm of a test would get,
    with a plain length. `extra`: whole lines without CRLF."""
    lines = _with_credential(_without(head.lines, _NOT_COPIED), backend)
    start = b"%b %b HTTP/1.1" % (head.method, backend.prefix + head.target)
    return b"\r\n".join((start, backend.host_line, *lines, b"Content-Length: %d" % length, *extra, b"", b""))


def side_request_head(head: RequestHead, address: bytes, length: int | None) -> bytes:
    """The head sent to the worker's own web application: everything, and the client's true `address`."""
    lines = head.lines.copy()
    if head.length_at >= 0:
        lines[head.length_at] = b"Content-Length: %d" % (length or 0)
    lines = _without(lines, frozenset((*_FORWARDED, b"expect", b"x-ratchet-for-another")))
    lines.append(b"X-Forwarded-For: " + address)
    if any(line.partition(b":")[0].lower() in _SPEAK_FOR_ANOTHER for line in head.lines):
        lines.append(b"X-Ratchet-For-Another: 1")
    return b"\r\n".join((b"%b %b HTTP/1.1" % (head.method, head.target), *lines, b"", b""))


def kept_from_trailers(api_key_header: str) -> frozenset[bytes]:
    """The names of fields that leave with a head or not at all, the credential's own among them; those for which a
    request is refused are not."""
    return (_HEAD_ONLY | {api_key_header.lower().encode("latin-1")}) - FORBIDDEN_TRAILERS


def trailer_lines(trailer: bytes, kept_out: frozenset[bytes]) -> bytes:
    """A request's trailer section without what only a head may say: there each of these is ours to take out or to
    replace, and a server that merges the two would take the trailer's word."""
    lines = trailer.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not _head_only(line.partition(b":")[0].lower(), kept_out))


def _head_only(name: bytes, kept_out: frozenset[bytes]) -> bool:
    return name in kept_out or (name.startswith((b"x-forwarded-", b"x-ratchet-")) and name not in FORBIDDEN_TRAILERS)


def via_token(user_hash: Callable[[bytes], int]) -> bytes:
    """What this install, with all its replicas, is called in the Via of requests: whoever gets that back is in a loop.

    It is keyed: who has not seen it cannot name it.
    """
    return b"ratchet-%016x" % (user_hash(_SELF) & 0xFFFFFFFFFFFFFFFF)


def copy_token(user_hash: Callable[[bytes], int]) -> bytes:
    """The same for the Via of copies: one that comes back says nothing of where the champion is."""
    return b"ratchet-copy-%016x" % (user_hash(_COPY) & 0xFFFFFFFFFFFFFFFF)


def request_lines(head: RequestHead, peer: Peer, settings: GatewayConfig, *, via: bytes | None) -> list[bytes]:
    """By setting: X-Forwarded-For, one more in the list; -Proto and -Host where no proxy before us has said
    them. `via`: who passed it on, where that is to be said."""
    lines: list[bytes] = []
    if settings.forwarded_headers:
        said = {line.partition(b":")[0].lower() for line in head.lines}
        lines.append(b"X-Forwarded-For: " + peer.host)
        if b"x-forwarded-proto" not in said:
            lines.append(b"X-Forwarded-Proto: " + (b"https" if peer.tls else b"http"))
        if b"x-forwarded-host" not in said:
            lines.append(b"X-Forwarded-Host: " + head.fields.get(b"host", b""))
    if via is not None:
        lines.append(b"Via: 1.%d %b" % (head.minor, via))
    return lines


def response_lines(served_by: Arm, settings: GatewayConfig) -> bytes:
    """By setting: Via, and which arm answered. Whole lines with CRLF."""
    via = b"Via: 1.1 ratchet\r\n" if settings.via else b""
    return via + b"x-ratchet-arm: %b\r\n" % served_by.label.encode() if settings.expose_arm else via


def response_head(head: ResponseHead, *, added: bytes = b"", dechunked: bool = False) -> bytes:
    """The head sent to the client; `added` are whole lines with CRLF."""
    lines = head.lines
    if dechunked:
        lines = _without(lines, frozenset((b"transfer-encoding", b"trailer")))
    return b"\r\n".join((b"HTTP/1.1 %d%b" % (head.status, head.reason), *lines, added + b"\r\n"))


def upgrade_response_head(head: ResponseHead, *, added: bytes) -> bytes:
    """The head of a 101: Connection and Upgrade belong to it."""
    upgrade = head.fields.get(b"upgrade", b"")
    return response_head(head, added=b"%bUpgrade: %b\r\nConnection: Upgrade\r\n" % (added, upgrade))


def _with_credential(lines: list[bytes], backend: Destination) -> list[bytes]:
    """`lines` with the destination's own credential in place of the client's, where it has one."""
    if backend.credential is None:
        return lines
    line, names = backend.credential
    kept = _without(lines, names)
    return [*kept, line] if line else kept


def _without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in names]
