"""When the first content came: whatever pieces the answer came in, and whatever encodes it."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.arrival import arrival_us


def gzipped(pieces: list[bytes]) -> list[bytes]:
    """As servers send them: each piece flushed, so that it can be read when it comes."""
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*packed[:-1], packed[-1] + packer.flush()]


def deflated(pieces: list[bytes]) -> list[bytes]:
    packer = zlib.compressobj()
    packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*packed[:-1], packed[-1] + packer.flush()]


def brotlied(pieces: list[bytes]) -> list[bytes]:
    packer = brotli.Compressor()
    packed = [packer.process(piece) + packer.flush() for piece in pieces]
    return [*packed[:-1], packed[-1] + packer.finish()]


def zstandarded(pieces: list[bytes]) -> list[bytes]:
    packer = zstandard.ZstdCompressor().compressobj()
    packed = [packer.compress(piece) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for piece in pieces]
    return [*packed[:-1], packed[-1] + packer.flush()]


PACKERS = {"gzip": gzipped, "deflate": deflated, "br": brotlied, "zstd": zstandarded}
HEAD_US = 1_000


def marks_of(packed: list[bytes], with_head: int) -> list[tuple[int, int]]:
    """As the gateway notes them: the first `with_head` pieces came with the head, each other one 10 ms later."""
    offsets = [sum(map(len, packed[:n])) for n in range(len(packed))]
    return [(offset, HEAD_US + 10_000 * n) for n, offset in enumerate(offsets)][with_head:]


def came_us(piece: int, with_head: int) -> int:
    return HEAD_US if piece < with_head else HEAD_US + 10_000 * piece


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=40),
    encoding=st.sampled_from([None, *PACKERS]),
    data=st.data(),
)
def test_any_byte_is_found_in_the_piece_that_brought_it(
    pieces: list[bytes], encoding: str | None, data: st.DataObject
) -> None:
    piece = data.draw(st.integers(0, len(pieces) - 1), label="piece")
    place = data.draw(st.integers(1, len(pieces[piece])), label="byte of it")
    with_head = data.draw(st.integers(0, len(pieces)), label="pieces that came with the head")
    packed = pieces if encoding is None else PACKERS[encoding](pieces)
    needed = sum(map(len, pieces[:piece])) + place
    found = arrival_us(needed, marks_of(packed, with_head), HEAD_US, b"".join(packed), encoding)
    assert found == came_us(piece, with_head)


def test_without_marks_all_came_with_the_head() -> None:
    assert arrival_us(500, [], 7, b"", None) == 7
    assert arrival_us(500, [], 7, gzip.compress(b"x" * 900), "gzip") == 7


def test_what_was_not_answered_has_no_time() -> None:
    assert arrival_us(1, [], None, b"", None) is None


def test_marks_that_grow_apart_give_the_last_one_before() -> None:
    """Later pieces are noted less often; what came between two marks came no sooner than the first of them."""
    marks = [(0, 10), (5, 20), (500, 30)]
    assert [arrival_us(n, marks, 1, b"", None) for n in (1, 5, 6, 500, 501, 9_000)] == [10, 10, 20, 20, 30, 30]


@pytest.mark.parametrize("encoding", [None, *PACKERS])
def test_the_work_is_bounded_whatever_the_answer_is(encoding: str | None) -> None:
    """A captured megabyte with a mark for each kilobyte."""
    body = b"x" * (1 << 20)
    marks = [(n << 10, n) for n in range(1 << 10)]
    assert arrival_us(1 << 20, marks, 0, body, encoding) == (1 << 10) - 1


def test_what_is_not_so_encoded_is_counted_as_it_came() -> None:
    body = b"data: 1\n\n" * 4
    assert arrival_us(12, [(9, 20), (18, 30)], 10, body, "gzip") == 20
    assert arrival_us(12, [(9, 20), (18, 30)], 10, body, "martian") == 20


@pytest.mark.parametrize("encoding", PACKERS)
def test_beginnings_that_decode_to_nothing_break_nothing(encoding: str) -> None:
    packed = b"".join(PACKERS[encoding]([b"data: hello\n\n"] * 50))
    found = arrival_us(13, [(end, end) for end in range(1, len(packed))], 0, packed, encoding)
    assert found is not None
    assert 0 < found < len(packed)
