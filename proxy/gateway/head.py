"""Message heads: the strict grammar of what comes in, and the end-to-end header lines that go out.

A head is split at CRLF and every line is held against one regular expression, so whatever passes has CRLF line
ends only, no folded lines, no control characters and only tokens for names. The lines that travel on are the very
bytes that arrived: case, order, duplicates and bytes above 0x7f are kept because nothing ever takes them apart.
Framing is stricter than RFC 9112 asks: one Content-Length or one `Transfer-Encoding: chunked`, never both, never a
list. A request that two parsers could read in two ways is refused (400), never repaired: smuggling lives on that.

The same clients send the same lines again and again, so what a line means is remembered by its bytes. A
remembered line costs one dictionary look-up instead of a match, a split and a lower(), which is half of the
price of a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from proxy.gateway.dot_segments import has_dot_segments
from proxy.gateway.errors import BadResponseError, RejectedError
from proxy.wire.targets import blank_secrets

__all__ = ["FORBIDDEN_TRAILERS", "TRAILERS", "RequestHead", "RequestParser", "ResponseHead", "has_bare_line_feed",
           "parse_response", "safe_trailer"]  # fmt: skip

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):(" + _VALUE + rb")")
TRAILERS: Final = re.compile(rb"(?>(?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*)\r\n")
"""A trailer section, empty or not, with its closing empty line."""
_REQUEST: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]++) HTTP/1\.([01])")
_RESPONSE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)((?: [\t\x20-\x7e\x80-\xff]*+)?)")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_OTHER_VERSION: Final = re.compile(rb"\S+ \S+ HTTP/(?!1\.[01]$)\d+(?:\.\d+)?")
_ABSOLUTE: Final = re.compile(rb"(?i)https?://[^/?#]*")
_HOST: Final = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
_LENGTH: Final = re.compile(rb"\d{1,18}")
_MALFORMED: Final = "the request head is not valid HTTP/1.1 (bare CR or LF, folded line, bad name or byte)"

_METHODS: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n"

_RECORDED: Final = (b"content-type", b"content-encoding", b"transfer-encoding", b"user-agent", b"x-request-id",
                    b"request-id", b"x-ratchet-request-id", b"traceparent", b"x-stainless-retry-count",
                    b"amz-sdk-request")  # fmt: skip
_NAMES_OF_ANSWERS: Final = (b"x-litellm-call-id", b"x-amzn-requestid", b"helicone-id", b"x-portkey-trace-id")
"""Headers of answers by which a vote may know them; `proxy.ingest.aliases` reads them."""
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding", b"host"))
_JOINED: Final = frozenset((b"connection", b"via", b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"))
"""Read with all their lines: of two keys nobody can tell which one is checked."""
_HOP_BY_HOP: Final = (b"connection", b"keep-alive", b"proxy-connection", b"upgrade")
_OWN: Final = (b"x-ratchet-user", b"x-ratchet-arm", b"x-ratchet-admin-token", b"x-ratchet-token", b"x-ratchet-no-train",
               b"x-ratchet-request-id", b"x-ratchet-record-id")  # fmt: skip
_PLACES: Final = (b"location", b"content-location", b"refresh")
_URLS: Final = frozenset((*_PLACES, b"referer", b"link", b"x-forwarded-uri", b"x-original-url", b"x-rewrite-url"))
"""Headers that may be written down by setting, and hold a URL: with what is secret in it blanked."""
_TRAVELLING: Final = (*_RECORDED, *_FRAMING, b"expect", b"idempotency-key", b"via")
_REQUEST_FIELDS: Final = dict.fromkeys(_TRAVELLING, True) | dict.fromkeys(
    (*_HOP_BY_HOP, *_OWN, b"te", b"proxy-authorization"), False
)
_NOTED: Final = (*_RECORDED, *_NAMES_OF_ANSWERS)
_RESPONSE_FIELDS: Final = dict.fromkeys((*_NOTED, *_PLACES, b"content-length"), True) | dict.fromkeys(
    (*_HOP_BY_HOP, b"x-ratchet-record-id", b"x-ratchet-arm"), False
)
FORBIDDEN_TRAILERS: Final = frozenset((*_FRAMING, *_HOP_BY_HOP, *_OWN, b"authorization", b"content-type", b"te"))
"""A request that says these behind its body is refused."""
_NO_BODY: Final = frozenset((204, 304))
_REMEMBERED: Final = 2048
_TARGET_TEXT: Final = 2048
_LONGEST_REMEMBERED: Final = 512


class _Field:
    """A header that is read here. `travels`: it is end-to-end; `text`: its value where it is written down."""

    __slots__ = ("name", "record", "text", "travels", "value")

    def __init__(self, name: bytes, value: bytes, travels: bool, record: str | None) -> None:
        self.name = name
        self.value = value
        self.travels = travels
        self.record = record
        self.text = "" if record is None else (blank_secrets(value) if name in _URLS else value).decode("latin-1")


class _Fields(dict[bytes, "_Field | None"]):
    """What a header line means: None where it just travels on. Raises ValueError for a malformed line."""

    def __init__(self, read: Mapping[bytes, bool], recorded: Iterable[bytes] = ()) -> None:
        super().__init__()
        self._read = read
        self._recorded = {name: name.decode("latin-1") for name in (*_RECORDED, *recorded)}

    def __missing__(self, line: bytes) -> _Field | None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("malformed header line")
        name = match[1].lower()
        travels = self._read.get(name)
        field = None
        if travels is not None:
            field = _Field(name, match[2].strip(b" \t"), travels, self._recorded.get(name))
        if len(line) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[line] = field
        return field


class _RequestLines(dict[bytes, tuple[bytes, bytes, int, str, str, bool]]):
    """Method, target in origin form and minor version of a request line, the first two as text, and whether the
    target has dot segments.

    Raises RejectedError.
    """

    def __missing__(self, line: bytes) -> tuple[bytes, bytes, int, str, str, bool]:
        match = _REQUEST.fullmatch(line)
        if match is None:
            if _OTHER_VERSION.fullmatch(line):
                raise RejectedError(505, "this port speaks HTTP/1.1 and HTTP/1.0")
            raise RejectedError(400, _MALFORMED)
        method, target = match[1], _origin_form(match[1], match[2])
        minor = 1 if match[3] == b"1" else 0
        text = blank_secrets(target[:_TARGET_TEXT]).decode("latin-1")
        meaning = method, target, minor, method.decode("ascii"), text, has_dot_segments(target)
        if len(line) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[line] = meaning
        return meaning


class RequestHead:
    """A request line and its headers, checked.

    `lines` are the header lines that travel on, without CRLF, Host at `host_at` and Content-Length at `length_at`
    (-1: absent). `fields` maps the lower-case names that are read to their first value; `recorded` holds those
    that are written down. `length` is None unless Content-Length was given.
    """

    __slots__ = ("chunked", "dotted", "expects_continue", "fields", "host_at", "keep_alive", "length", "length_at",
                 "lines", "method", "method_text", "minor", "recorded", "target", "target_text", "upgrade")  # fmt: skip

    method: bytes
    target: bytes
    method_text: str
    target_text: str
    """Cut after 2048 characters, without the keys that some providers take in the query."""
    minor: int
    dotted: bool
    """Whether the path climbs, or may be read so."""
    lines: list[bytes]
    fields: dict[bytes, bytes]
    recorded: dict[str, str]
    host_at: int
    length_at: int
    length: int | None
    chunked: bool
    keep_alive: bool
    upgrade: bool
    expects_continue: bool
    """Whether the client waits for `100 Continue` before it sends the body."""


class ResponseHead:
    """A status line and its headers, checked. `reason` starts with its space, or is empty."""

    __slots__ = ("chunked", "fields", "keep_alive", "length", "lines", "places", "reason", "recorded", "status")

    status: int
    reason: bytes
    lines: list[bytes]
    fields: dict[bytes, bytes]
    recorded: dict[str, str]
    length: int | None
    chunked: bool
    keep_alive: bool
    places: bool
    """Whether it says where something else is."""


class RequestParser:
    """Reads request heads. `extra` names headers to read besides those that forwarding needs, `recorded` those to write
    down besides the usual ones."""

    def __init__(self, extra: Iterable[str] = (), *, recorded: Iterable[str] = (), max_headers: int = 200) -> None:
        self._max_headers = max_headers
        noted = [name.lower().encode("latin-1") for name in recorded]
        read = dict.fromkeys((*(name.lower().encode("latin-1") for name in extra), *noted), True)
        self._fields = _Fields(read | _REQUEST_FIELDS, noted)
        self._start = _RequestLines()

    def parse(self, data: bytes, end: int) -> RequestHead:
        """The head in `data`, whose empty line begins at `end`. Raises RejectedError."""
        head = RequestHead()
        lines = data[:end].split(b"\r\n")
        start = self._start[lines.pop(0)]
        head.method, head.target, head.minor, head.method_text, head.target_text, head.dotted = start
        if len(lines) > self._max_headers:
            raise RejectedError(431, "the request has more headers than gateway.max_headers allows")
        fields: dict[bytes, bytes] = {}
        recorded: dict[str, str] = {}
        dropped: list[int] = []
        head.lines, head.fields, head.recorded = lines, fields, recorded
        head.host_at = head.length_at = -1
        try:
            for index, field in enumerate(map(self._fields.__getitem__, lines)):
                if field is None:
                    continue
                name = field.name
                if not field.travels:
                    dropped.append(index)
                if name in fields:
                    if name in _FRAMING:
                        raise RejectedError(400, f"{name.decode()} is given more than once")
                    if name in _JOINED:
                        fields[name] += b"," + field.value
                    continue
                fields[name] = field.value
                if field.record is not None:
                    recorded[field.record] = field.text
                elif name == b"host":
                    head.host_at = index - len(dropped)
                elif name == b"content-length":
                    head.length_at = index - len(dropped)
        except ValueError:
            raise RejectedError(400, _MALFORMED) from None
        for index in reversed(dropped):
            del lines[index]
        _frame_request(head)
        _connection(head)
        return head


def has_bare_line_feed(data: bytes | bytearray, start: int) -> bool:
    """Whether a line in `data` from `start` on ends in LF alone: such a head will never become a good one."""
    return _BARE_LF.search(data, start) is not None


def safe_trailer(trailer: bytes) -> bool:
    """Whether the trailer lines of a request hold nothing that may only stand in its head."""
    return all(line.partition(b":")[0].lower() not in FORBIDDEN_TRAILERS for line in trailer.split(b"\r\n"))


def _origin_form(method: bytes, target: bytes) -> bytes:
    if method == b"CONNECT":
        raise RejectedError(405, "CONNECT is not supported: this is a reverse proxy", headers=_METHODS)
    if target[0] == 47:  # "/"
        return target
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        raise RejectedError(400, "the request target is neither a path nor a URL")
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _frame_request(head: RequestHead) -> None:
    fields = head.fields
    host = fields.get(b"host")
    if host is None:
        if head.minor:
            raise RejectedError(400, "an HTTP/1.1 request needs a Host header")
    elif not _HOST.fullmatch(host):
        raise RejectedError(400, "the Host header is not a valid host name")
    head.length = None
    head.expects_continue = head.minor == 1 and fields.get(b"expect", b"").lower() == b"100-continue"
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    head.chunked = coding is not None
    if coding is not None:
        if length is not None:
            raise RejectedError(400, "Content-Length and Transfer-Encoding must not be sent together")
        if coding.lower() != b"chunked" or not head.minor:
            raise RejectedError(400, "the only supported transfer coding is chunked, over HTTP/1.1")
    elif length is not None:
        if not _LENGTH.fullmatch(length):
            raise RejectedError(400, "Content-Length is not a decimal number")
        head.length = int(length)


def _connection(head: RequestHead) -> None:
    """What Connection says: persistence, an upgrade, and headers that end here."""
    value = head.fields.get(b"connection")
    head.upgrade = False
    if value is None or (value == b"keep-alive" and head.minor):
        head.keep_alive = head.minor == 1
        return
    options = _options(value)
    head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
    head.upgrade = b"upgrade" in options and head.minor == 1 and _upgrades(head.fields.get(b"upgrade"))
    if head.fields.get(b"te", b"").lower() == b"trailers":
        head.lines.append(b"TE: trailers")
    _drop_named(head, options)


def _options(value: bytes) -> set[bytes]:
    return {option.strip(b" \t").lower() for option in value.split(b",")}


def _upgrades(protocols: bytes | None) -> bool:
    """Whether the offer is worth tunnelling: h2c alone is not, HTTP/1.1 serves that client as well."""
    return protocols is not None and any(not p.startswith(b"h2c") for p in _options(protocols) if p)


def _drop_named(head: RequestHead, options: set[bytes]) -> None:
    named = options - {b"close", b"keep-alive", b"upgrade", b"te", b""} - _FRAMING
    if not named:
        return
    kept: list[bytes] = []
    places = (head.host_at, head.length_at)
    for index, line in enumerate(head.lines):
        if index == places[0]:
            head.host_at = len(kept)
        elif index == places[1]:
            head.length_at = len(kept)
        elif line.partition(b":")[0].lower() in named:
            continue
        kept.append(line)
    head.lines = kept


class _StatusLines(dict[bytes, tuple[int, bytes, bool]]):
    """Status, reason phrase (with its space) and whether it is HTTP/1.1. Raises ValueError."""

    def __missing__(self, line: bytes) -> tuple[int, bytes, bool]:
        match = _RESPONSE.fullmatch(line)
        if match is None:
            raise ValueError("malformed status line")
        meaning = int(match[2]), match[3], match[1] == b"1"
        if len(self) >= _REMEMBERED:
            self.clear()
        self[line] = meaning
        return meaning


_status_lines: Final = _StatusLines()
_response_fields: Final = _Fields(_RESPONSE_FIELDS, _NAMES_OF_ANSWERS)


def parse_response(data: bytes, end: int, method: bytes) -> ResponseHead:
    """The response head in `data`, whose empty line begins at `end`.

    `method` is the request's: the answer to HEAD has no body. Raises BadResponseError.
    """
    head = ResponseHead()
    lines = data[:end].split(b"\r\n")
    fields: dict[bytes, bytes] = {}
    recorded: dict[str, str] = {}
    dropped: list[int] = []
    head.lines, head.fields, head.recorded = lines, fields, recorded
    head.places = False
    try:
        head.status, head.reason, is_1_1 = _status_lines[lines.pop(0)]
        for index, field in enumerate(map(_response_fields.__getitem__, lines)):
            if field is None:
                continue
            name, value = field.name, field.value
            if not field.travels:
                dropped.append(index)
            if name in fields:
                if name in _FRAMING and (name != b"content-length" or fields[name] != value):
                    raise BadResponseError(f"{name.decode()} is given more than once")
                if name == b"connection":
                    fields[name] += b"," + value
                elif name == b"content-length":
                    dropped.append(index)  # said twice, the same: once is enough
                continue
            fields[name] = value
            if field.record is not None:
                recorded[field.record] = field.text
            elif name in _PLACES:
                head.places = True
    except ValueError as exc:
        raise BadResponseError(f"the response head is not valid HTTP/1.x ({exc})") from None
    for index in reversed(dropped):
        del lines[index]
    _frame_response(head, method, is_1_1)
    return head


def _frame_response(head: ResponseHead, method: bytes, is_1_1: bool) -> None:
    fields = head.fields
    connection = fields.get(b"connection")
    head.keep_alive = is_1_1
    if connection is not None and connection != b"keep-alive":
        options = _options(connection)
        head.keep_alive = b"close" not in options and (is_1_1 or b"keep-alive" in options)
        named = options - {b"close", b"keep-alive", b"upgrade", b""} - _FRAMING
        if named:
            head.lines = [line for line in head.lines if line.partition(b":")[0].lower() not in named]
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked" or length is not None:
            raise BadResponseError("the length of the response is ambiguous (Transfer-Encoding)")
        head.keep_alive = head.keep_alive and is_1_1  # RFC 9112 §6.1: whoever chunks over 1.0 may frame wrongly, too
    if length is not None and not _LENGTH.fullmatch(length):
        raise BadResponseError("the length of the response is ambiguous (Content-Length)")
    if method == b"HEAD" or head.status in _NO_BODY or head.status < 200:
        head.chunked, head.length = False, 0
        return
    head.chunked = coding is not None
    head.length = int(length) if length is not None else None
