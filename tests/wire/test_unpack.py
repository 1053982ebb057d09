"""Content encodings undone while a body passes: the same as at once, and never more than the data is worth."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.decode import UnknownEncodingError, decode
from proxy.wire.unpack import Unpacker


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


PACK = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:]),
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
    "gzip, BR": lambda data: brotli.compress(gzip.compress(data)),
}


def unpack(data: bytes, coding: str, size: int) -> tuple[bytes, bool]:
    unpacker = Unpacker(coding)
    out = b"".join(unpacker.feed(data[start : start + size]) for start in range(0, len(data), size))
    return out, unpacker.ended


@given(st.binary(max_size=300), st.sampled_from(sorted(PACK)), st.integers(1, 60))
def test_pieces_give_what_the_whole_gives(data: bytes, coding: str, size: int) -> None:
    packed = PACK[coding](data)
    assert unpack(packed, coding, size) == (data, False)
    assert decode(packed, coding, 1 << 20) == data


@pytest.mark.parametrize("coding", sorted(set(PACK) - {"identity"}))
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_a_few_kilobytes_do_not_become_gigabytes(coding: str, size: int) -> None:
    out, ended = unpack(PACK[coding](bytes(64 << 20)), coding, size)
    assert ended
    assert len(out) <= 4 << 20


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_a_million_empty_members_are_not_opened(size: int) -> None:
    many = gzip.compress(b"") * 20_000
    assert unpack(gzip.compress(b"a") + many + gzip.compress(b"b"), "gzip", size)[1]
    assert unpack(gzip.compress(many), "gzip, gzip", size)[1]
    few = b"".join(gzip.compress(b"%d," % n) for n in range(256))
    assert unpack(few, "gzip", size) == (decode(few, "gzip", 1 << 20), False)


@pytest.mark.parametrize("coding", sorted(set(PACK) - {"identity"}))
def test_what_is_damaged_ends(coding: str) -> None:
    unpacker = Unpacker(coding)
    unpacker.feed(b"\x08\x00 this is nothing of the kind" * 9)
    assert unpacker.ended
    assert unpacker.feed(b"more") == b""


def test_what_follows_the_end_of_a_deflated_body_is_nothing() -> None:
    assert unpack(zlib.compress(b"abc") + b"more", "deflate", 100) == (b"abc", False)


@pytest.mark.parametrize("coding", ["zap", "gzip, zap", "gzip" + ", gzip" * 4])
def test_unknown_codings_are_refused(coding: str) -> None:
    with pytest.raises(UnknownEncodingError):
        Unpacker(coding)
