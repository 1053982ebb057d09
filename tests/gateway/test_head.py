"""The grammar of heads, worked examples and agreement with two other parsers (llhttp, h11)."""

from __future__ import annotations

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.serving import CaptureConfig
from proxy.gateway.errors import BadResponseError, RejectedError
from proxy.gateway.head import RequestHead, RequestParser, parse_response, safe_trailer

names = st.sampled_from(
    ["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "X-A", "x-a", "X B", "TE", "", "Upgrade"]
)
values = st.sampled_from(
    ["x", "5", "chunked", "Chunked", " chunked ", "5,5", "close", "keep-alive, x-a", "", "caf\xe9", "a\tb", "\x0b",
     "gzip, chunked", "websocket", "0"]
)  # fmt: skip
separators = st.sampled_from([": ", ":", " : ", ":\t", ":  "])
ends = st.sampled_from(["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n "])
starts = st.sampled_from(
    ["GET / HTTP/1.1", "POST /a?b HTTP/1.1", "GET / HTTP/1.0", "get / HTTP/1.1", "GET  / HTTP/1.1", "GET / HTTP/1.1 "]
)
heads = st.builds(
    lambda start, fields: (start + "\r\n" + "".join("".join(field) for field in fields) + "\r\n").encode("latin-1"),
    starts,
    st.lists(st.tuples(names, separators, values, ends), max_size=5).map(
        lambda fields: [("Host", ": ", "x", "\r\n"), *fields]
    ),
)


def parse(data: bytes) -> RequestHead:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise RejectedError(400, "no end")
    return RequestParser().parse(data, end)


class Recorder:
    """What llhttp makes of a request."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


@given(heads)
def test_what_is_accepted_llhttp_reads_the_same_way(data: bytes) -> None:
    try:
        head = parse(data)
    except RejectedError:
        return
    recorder = Recorder()
    parser = httptools.HttpRequestParser(recorder)
    if head.method not in (b"GET", b"POST"):
        return
    try:
        parser.feed_data(data[: data.index(b"\r\n\r\n") + 4])
    except httptools.HttpParserUpgrade:
        assert head.upgrade or b"upgrade" in data.lower()
    assert recorder.complete
    assert recorder.url == head.target
    said = {name.lower(): value for name, value in reversed(recorder.headers)}
    assert head.chunked == (said.get(b"transfer-encoding", b"").strip().lower() == b"chunked")
    length = said.get(b"content-length")
    assert head.length == (int(length) if length is not None else None)


@given(heads)
def test_what_is_accepted_h11_reads_the_same_way(data: bytes) -> None:
    try:
        head = parse(data)
    except RejectedError:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data[: data.index(b"\r\n\r\n") + 4])
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (head.method, head.target)
    said = dict(event.headers)
    assert head.chunked == (b"transfer-encoding" in said)
    assert head.length == (int(said[b"content-length"]) if b"content-length" in said else None)


def test_a_head_is_understood_and_kept_byte_for_byte() -> None:
    head = parse(
        b"POST http://a/b?c HTTP/1.1\r\nX: 1\r\nhOst: a \r\nConnection: X-Gone\r\nX-GONE: 2\r\n"
        b"Content-Length: 3\r\n\r\n"
    )
    assert (head.method, head.target, head.minor, head.length) == (b"POST", b"/b?c", 1, 3)
    assert head.lines == [b"X: 1", b"hOst: a ", b"Content-Length: 3"]
    assert (head.host_at, head.length_at) == (1, 2)
    assert head.keep_alive
    assert not head.upgrade


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: CLOSE\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.1", b"Connection: x, close , y\r\n", False),
    ],
)
def test_persistence(version: bytes, connection: bytes, kept: bool) -> None:
    assert parse(b"GET / HTTP/" + version + b"\r\nHost: x\r\n" + connection + b"\r\n").keep_alive is kept


def test_trailers_travel_only_when_te_says_so_alone() -> None:
    def te(value: bytes) -> list[bytes]:
        return parse(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: TE\r\nTE: " + value + b"\r\n\r\n").lines

    assert te(b"trailers") == [b"Host: x", b"TE: trailers"]
    assert te(b"gzip") == [b"Host: x"]


def test_remembered_lines_do_not_change_the_result() -> None:
    parser = RequestParser()
    data = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nX-Unique: %d\r\n\r\n"
    for n in (*range(5000), *range(100)):
        request = data % (n, n, n)
        head = parser.parse(request, request.index(b"\r\n\r\n"))
        assert (head.target, head.length, head.lines[2]) == (b"/%d" % n, n, b"X-Unique: %d" % n)


def respond(data: bytes, method: bytes = b"GET") -> tuple[int | None, bool]:
    head = parse_response(data, data.index(b"\r\n\r\n"), method)
    return head.length, head.chunked


def test_how_long_an_answer_is() -> None:
    assert respond(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") == (5, False)
    assert respond(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n") == (5, False)
    assert respond(b"HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n") == (None, True)
    assert respond(b"HTTP/1.0 200 OK\r\n\r\n") == (None, False)
    assert respond(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD") == (0, False)
    assert respond(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n") == (0, False)
    assert respond(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n") == (0, False)


def test_chunks_over_http_1_0_end_the_connection() -> None:
    keep = b"200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    for version, kept in ((b"HTTP/1.0 ", False), (b"HTTP/1.1 ", True)):
        head = parse_response(version + keep, len(version + keep) - 4, b"GET")
        assert (head.chunked, head.keep_alive) == (True, kept)


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
    ],
)
def test_an_ambiguous_answer_is_refused(bad: bytes) -> None:
    with pytest.raises(BadResponseError):
        respond(bad)


def test_which_trailers_are_safe() -> None:
    assert safe_trailer(b"X-Sum: 1\r\nY: 2\r\n")
    assert not safe_trailer(b"X-Sum: 1\r\nhost: 2\r\n")


def test_headers_that_name_an_answer_are_written_down() -> None:
    """Of the answer those of four products; of the request those of the settings (`capture.alias_headers`)."""
    names = {
        "x-litellm-call-id": "call-1",
        "x-amzn-requestid": "r-1",
        "helicone-id": "h-1",
        "x-portkey-trace-id": "t-1",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    data = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Other: no\r\n{lines}\r\n".encode()
    assert names.items() <= parse_response(data, data.index(b"\r\n\r\n"), b"POST").recorded.items()
    asked = b"GET / HTTP/1.1\r\nHost: h\r\nX-OpenWebUI-Message-Id: m-1\r\nX-Other: no\r\n\r\n"
    parser = RequestParser(recorded=CaptureConfig().recorded_headers)
    assert parser.parse(asked, asked.index(b"\r\n\r\n")).recorded == {"x-openwebui-message-id": "m-1"}
