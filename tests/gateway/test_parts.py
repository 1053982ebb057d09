"""The gateway's small parts: body framing, breaker, capture."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.serving import BreakerConfig
from proxy.gateway.breaker import Breaker
from proxy.gateway.capture import Capture
from proxy.gateway.framing import ChunkedBody, CloseBody, FramingError, LengthBody

CUTS = st.lists(st.integers(0, 400), max_size=30)


def feed(body: LengthBody | ChunkedBody, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Payload and rest of `data` fed in pieces."""
    payload, edges = b"", sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        piece, rest = body.feed(data[start:end])
        payload += piece
        if body.done:
            return payload, rest + data[end:]
    return payload, b""


def outcome(wire: bytes, cuts: list[int]) -> object:
    """What a chunked body makes of `wire`."""
    body = ChunkedBody()
    try:
        return feed(body, wire, cuts), body.done
    except FramingError:
        return "refused"


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), cuts=CUTS)
def test_chunks_are_the_same_however_they_are_cut(chunks: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nA: b\r\n\r\n"
    body = ChunkedBody()
    assert feed(body, wire + b"GET /next", cuts) == (b"".join(chunks), b"GET /next")
    assert (body.done, body.trailer) == (True, b"A: b\r\n")


LINES = (b"%x", b"%X", b"0%x", b"%x;", b"%x ;a=b", b"-%x", b"0x%x", b"%x ")


@given(
    size=st.sampled_from((1, 9, 10, 15, 16, 17, 255, 256, 257, 4095, 4096, 4097)),
    said=st.integers(-1, 1),
    line=st.sampled_from(LINES),
    behind=st.sampled_from((b"\r\n", b"\n\r", b"\n", b"", b"\r\n0\r\n\r\n", b"\r\n1\r\na\r\n")),
    byte=st.sampled_from((b"a", b"\n", b"\r")),
)
def test_a_chunk_that_comes_at_once_is_read_as_one_that_comes_in_pieces(
    size: int, said: int, line: bytes, behind: bytes, byte: bytes
) -> None:
    wire = line % (size + said) + b"\r\n" + byte * size + behind

    at_once = outcome(wire, [])
    assert at_once == outcome(wire, [*range(len(line) + 6)]) == outcome(wire, [*range(0, len(wire), 2)])
    if (said, behind) == (0, b"\r\n") and line in LINES[:5]:
        assert at_once == ((byte * size, b""), False)


@given(data=st.binary(max_size=200), length=st.integers(1, 250), cuts=CUTS)
def test_a_length_is_the_same_however_it_is_cut(data: bytes, length: int, cuts: list[int]) -> None:
    body = LengthBody(length)
    assert feed(body, data, cuts) == (data[:length], data[length:] if len(data) >= length else b"")
    assert body.done == (len(data) >= length)


@given(data=st.binary(max_size=100), cuts=CUTS)
def test_arbitrary_bytes_are_read_the_same_way_or_refused(data: bytes, cuts: list[int]) -> None:
    assert outcome(data, cuts) == outcome(data, [])


def test_a_close_ends_what_nothing_else_ends() -> None:
    body = CloseBody()
    assert body.feed(b"abc") == (b"abc", b"")
    assert body.done is False


def test_the_breaker_step_by_step() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=2, open_seconds=10.0))
    breaker.failure(0.0)
    breaker.success()
    breaker.failure(0.0)
    assert breaker.allow(0.0)
    breaker.failure(0.0)
    assert breaker.is_open
    assert not breaker.allow(9.9)
    assert breaker.allow(10.0)  # the probe
    assert not breaker.allow(10.0)  # one at a time
    breaker.failure(10.0)
    assert not breaker.allow(29.9)  # twice as long
    assert breaker.allow(30.0)
    breaker.release()  # its client left: no verdict
    assert breaker.allow(30.0)
    breaker.success()
    assert not breaker.is_open
    assert breaker.allow(30.0)


def test_the_breaker_waits_at_most_ten_times_as_long() -> None:
    breaker = Breaker(BreakerConfig(consecutive_failures=1, open_seconds=1.0))
    now = 0.0
    breaker.failure(now)
    for _ in range(10):
        now += 100.0
        assert breaker.allow(now)
        breaker.failure(now)
    assert not breaker.allow(now + 9.9)
    assert breaker.allow(now + 10.0)


@given(parts=st.lists(st.binary(max_size=20), max_size=8), limit=st.integers(0, 60))
def test_a_capture_keeps_the_beginning_the_size_and_the_digest(parts: list[bytes], limit: int) -> None:
    capture = Capture(limit)
    for part in parts:
        capture.add(part)
    body = b"".join(parts)
    assert (bytes(capture.data), capture.size) == (body[:limit], len(body))
    assert capture.cut == (len(body) > limit)
    assert capture.sha256 == (sha256(body).hexdigest() if capture.cut else None)
