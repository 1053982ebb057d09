"""Heads that are known from before: whatever came first, a head means what the parser alone makes of it."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.records import Arm
from proxy.gateway.backend import Backend
from proxy.gateway.errors import BadResponseError, RejectedError
from proxy.gateway.head import RequestParser, parse_response
from proxy.gateway.head_cache import CachedHead, HeadCache, KnownResponse
from proxy.gateway.outbound import request_head, response_head
from proxy.gateway.pool import UpstreamPool
from proxy.routes import Target

ADDED = b"x-ratchet-record-id: 1\r\n"
numbers = st.sampled_from([b"5", b"17", b"0", b"007", b"+5", b"5 ", b"5,5", b"1_0", b"9" * 19, b"", b"\xb2"])
request_lines = st.sampled_from([b"POST /a HTTP/1.1", b"POST /b HTTP/1.1", b"POST /a HTTP/1.0"])
status_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 x", b"HTTP/1.0 200 OK", b"HTTP/1.1 103 Early"]
)
lengths = st.builds(
    lambda name, number: name + number,
    st.sampled_from(
        [b"Content-Length: ", b"content-length: ", b"CONTENT-LENGTH: ", b"Content-Length:", b"X-Content-Length: "]
    ),
    numbers,
)
others = st.sampled_from(
    [b"Host: x", b"X-A: 1", b"x: content-length: 5", b"Connection: X-A", b"Connection: close", b"Content-Type: a/json",
     b"Transfer-Encoding: chunked", b"Bad Name: 1", b" folded"]
)  # fmt: skip


def heads(first: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Some heads that differ little, as one client's do."""
    head = st.builds(
        lambda start, lines: b"\r\n".join((start, b"Host: y", *lines, b"", b"")), first, st.lists(lengths | others)
    )
    alike = st.builds(
        lambda start, before, numbers, after: [
            b"\r\n".join((start, b"Host: y", *before, b"Content-Length: " + number, *after, b"", b""))
            for number in numbers
        ],
        first,
        st.lists(others, max_size=2),
        st.lists(numbers, min_size=1, max_size=4),
        st.lists(others | lengths, max_size=2),
    )
    return alike | st.lists(head, min_size=1, max_size=5)


def a_backend() -> Backend:
    target = Target(model_id=1, name="m", url="http://model:1/prefix")
    return Backend(Arm.CHAMPION, target, cast(UpstreamPool, None), None, None, verbatim=True)


def a_request(data: bytes, end: int) -> CachedHead:
    head = RequestParser().parse(data, end)
    return CachedHead(head, key=None, skip_paths=frozenset(), no_train_header=b"x-no")


def a_response(data: bytes, end: int) -> KnownResponse:
    return KnownResponse(parse_response(data, end, b"GET"))


@given(heads(request_lines))
@example([b"POST /a HTTP/1.1\r\nHost: y\r\nContent-Length: %b\r\n\r\n" % n for n in (b"5", b"")])
def test_a_known_request_means_what_the_parser_says(messages: list[bytes]) -> None:
    memory: HeadCache[CachedHead] = HeadCache(a_request)
    backend = a_backend()
    last: CachedHead | None = None
    for data in messages * 2:
        end = data.index(b"\r\n\r\n")
        again = last.again(data + b"body") if last is not None else None
        try:
            fresh = RequestParser().parse(data, end)
        except RejectedError as exc:
            assert again is None
            with pytest.raises(RejectedError, match=str(exc).partition("(")[0]):
                memory.read(data, end)
            continue
        last, length = memory.read(data, end)
        assert (length, last.head.chunked) == (fresh.length, fresh.chunked)
        assert last.opening(backend, length) == request_head(fresh, backend)
        assert again in (None, (end + 4, length if last.varies else None))
        assert last.again(data) is None or last.again(data) == (end + 4, length if last.varies else None)


@given(heads(status_lines))
@example([b"HTTP/1.1 204 x\r\nContent-Length: %d\r\n\r\n" % n for n in (0, 5)])
def test_a_known_response_means_what_the_parser_says(messages: list[bytes]) -> None:
    memory: HeadCache[KnownResponse] = HeadCache(a_response)
    last: KnownResponse | None = None
    for data in messages * 2:
        end = data.index(b"\r\n\r\n")
        again = last.again(data + b"body") if last is not None else None
        try:
            fresh = parse_response(data, end, b"GET")
        except BadResponseError:
            assert again is None
            with pytest.raises(BadResponseError):
                memory.read(data, end)
            continue
        last, length = memory.read(data, end)
        assert (length, last.head.chunked, last.head.status) == (fresh.length, fresh.chunked, fresh.status)
        assert last.opening(ADDED, length) == response_head(fresh, added=ADDED)
        assert again in (None, (end + 4, length if last.varies else None))


def test_a_head_is_known_whatever_its_content_length() -> None:
    memory: HeadCache[CachedHead] = HeadCache(a_request)
    data = b"POST /a HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\nX: y\r\n\r\n"
    first, _ = memory.read(data % 7, (data % 7).index(b"\r\n\r\n"))
    second, length = memory.read(data % 12345, (data % 12345).index(b"\r\n\r\n"))
    assert first is second
    assert length == 12345
    assert first.again(data % 99 + b"{") == (len(data % 99), 99)
    assert first.again((data % 99)[:-1]) is None


def test_the_memory_is_bounded() -> None:
    memory: HeadCache[CachedHead] = HeadCache(a_request)
    for n in range(2000):
        data = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n
        memory.read(data, len(data) - 4)
        assert len(memory) <= 512
    long = b"GET / HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"y" * 5000)
    before = len(memory)
    known, _ = memory.read(long, len(long) - 4)
    assert len(memory) == before
    assert known.again(long) is None
