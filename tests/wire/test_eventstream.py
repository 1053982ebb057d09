"""AWS's binary event stream: the book's own example, any chunking, and no word beyond the first damaged byte."""

import struct
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.eventstream import EventMessage, EventStreamDecoder, begins_frames
from tests.harness.eventstream import frame, header, text_header

# Test vectors of the specification: without and with headers and payload.
EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")
PAYLOAD = bytes.fromhex("0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936")


def decode(*chunks: bytes) -> tuple[list[EventMessage], str | None]:
    decoder = EventStreamDecoder()
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    decoder.finish()
    return frames, decoder.trouble


def test_the_examples_of_the_specification() -> None:
    assert decode(EMPTY + PAYLOAD) == ([EventMessage({}, b"", 16), EventMessage({}, b"{'foo':'bar'}", 45)], None)


def test_every_type_of_header() -> None:
    headers = (
        header("yes", 0, b""), header("no", 1, b""), header("byte", 2, b"\xff"), header("short", 3, b"\x01\x00"),
        header("int", 4, struct.pack(">i", -7)), header("long", 5, struct.pack(">q", 2**40)),
        header("bytes", 6, b"\x00\x02\x00\xff"), text_header("text", "å"),
        header("time", 8, struct.pack(">q", 8675309)),
        header("uuid", 9, bytes(range(16))),
    )  # fmt: skip
    [found], trouble = decode(frame(b"".join(headers), b"x"))
    assert trouble is None
    assert found.headers == {
        "yes": True, "no": False, "byte": -1, "short": 256, "int": -7, "long": 2**40, "bytes": b"\x00\xff", "text": "å",
        "time": 8675309, "uuid": bytes(range(16)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (header("a", 10, b""), "unknown type 10"),
        (header("a", 4, b"\0"), "reaches beyond"),
        (header("a", 7, b"\x00\x05abc"), "reaches beyond"),
        (b"\x05ab", "reaches beyond"),
        (b"\x01a", "reaches beyond"),
    ],
)
def test_headers_that_are_none(headers: bytes, words: str) -> None:
    frames, trouble = decode(EMPTY, frame(headers, b"x"), EMPTY)
    assert len(frames) == 1
    assert trouble is not None
    assert words in trouble


@pytest.mark.parametrize(
    ("size", "headers"), [(15, 0), (0, 0), (24 * 2**20 + 1, 0), (17, 2), (2**20, 128 * 2**10 + 1),
                          (2**32 - 1, 2**32 - 1)]
)  # fmt: skip
def test_lengths_that_cannot_be(size: int, headers: int) -> None:
    prelude = struct.pack(">II", size, headers)
    frames, trouble = decode(EMPTY, prelude + struct.pack(">I", crc32(prelude)) + bytes(64))
    assert len(frames) == 1
    assert trouble == f"a frame of {size} bytes with {headers} bytes of headers is none"


NAMES = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8)
FRAMES = st.lists(
    st.builds(
        lambda headers, payload: frame(b"".join(text_header(*item) for item in headers.items()), payload),
        st.dictionaries(NAMES, st.text(max_size=8), max_size=3),
        st.binary(max_size=40),
    ),
    max_size=4,
)


@given(FRAMES, st.lists(st.integers(0, 400), max_size=6))
def test_any_chunking_gives_the_same_frames(frames: list[bytes], cuts: list[int]) -> None:
    body = b"".join(frames)
    at = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[start:end] for start, end in pairwise(at)]
    whole = decode(body)
    assert decode(*pieces) == whole
    assert whole[1] is None
    assert [found.end for found in whole[0]] == [len(b"".join(frames[: n + 1])) for n in range(len(frames))]


@given(FRAMES, st.integers(0, 400))
def test_a_cut_stream_gives_the_frames_before_the_cut(frames: list[bytes], cut: int) -> None:
    body = b"".join(frames)
    whole, _ = decode(body)
    found, trouble = decode(body[:cut])
    assert found == whole[: len(found)]
    ends = [0, *(frame.end for frame in whole)]
    assert (trouble is None) == (cut >= len(body) or cut in ends)


@given(FRAMES.filter(bool), st.data())
def test_a_damaged_byte_ends_the_stream_there(frames: list[bytes], data: st.DataObject) -> None:
    body = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    whole, _ = decode(b"".join(frames))
    found, trouble = decode(bytes(body))
    assert found == [frame for frame in whole if frame.end <= at], "a checksum finds every change of a single byte"
    assert trouble is not None


@given(st.binary(max_size=200))
def test_anything_at_all_never_raises(body: bytes) -> None:
    frames, trouble = decode(body)
    assert frames == [] or trouble is None or len(body) > 16
    decoder = EventStreamDecoder()
    decoder.feed(b"\xff" * 12)
    assert decoder.feed(EMPTY) == [], "after damage nothing is read"


@given(FRAMES.filter(bool), st.binary(max_size=30))
def test_how_a_stream_of_frames_begins(frames: list[bytes], noise: bytes) -> None:
    assert begins_frames(b"".join(frames))
    assert not begins_frames(frames[0][:11])
    assert not begins_frames(b"data: {}" + noise)
    assert not begins_frames(b'{"a": 1}' + noise)
