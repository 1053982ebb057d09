"""Content encodings: round trips, chains, cut and damaged data, bombs."""

import contextlib
import gzip
import random
import time
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.decode import NotEncodedError, UnknownEncodingError, decode

BIG = 1 << 20
# Words that do not repeat exactly, so that a damaged copy still has a beginning worth keeping.
TEXT = b" ".join(b"%d squared is %d." % (i, i * i) for i in range(4000))
LONG = b" ".join(b"%d squared is %d." % (i, i * i) for i in range(40000))


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


ENCODERS: dict[str, list[Callable[[bytes], bytes]]] = {
    "gzip": [gzip.compress], "x-gzip": [gzip.compress], "deflate": [zlib.compress, raw_deflate],
    "br": [brotli.compress], "zstd": [zstandard.compress], "identity": [bytes], "": [bytes],
}  # fmt: skip
CASES = [pytest.param(name, encode, id=f"{name or 'none'}-{i}") for name, encoders in ENCODERS.items()
         for i, encode in enumerate(encoders)]  # fmt: skip
PACKED = [case for case in CASES if case.values[0] not in ("", "identity")]


@pytest.mark.parametrize(("coding", "encode"), CASES)
def test_what_was_encoded_comes_back(coding: str, encode: Callable[[bytes], bytes]) -> None:
    assert decode(encode(TEXT), coding, BIG) == TEXT
    assert decode(encode(b""), coding, BIG) == b""


@given(st.binary(max_size=200), st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "identity"]), max_size=3))
def test_chains_are_undone_from_the_last(body: bytes, chain: list[str]) -> None:
    wire = body
    for coding in chain:
        wire = ENCODERS[coding][0](wire)
    assert decode(wire, ", ".join(chain).upper(), BIG) == body


@pytest.mark.parametrize(("coding", "encode"), PACKED)
def test_cut_data_gives_its_beginning(coding: str, encode: Callable[[bytes], bytes]) -> None:
    part = decode(encode(TEXT)[:-20], coding, BIG)
    assert TEXT.startswith(part)
    assert part or coding == "zstd", "zstd decodes by blocks of up to 128 KB; this text is one"


@pytest.mark.parametrize(("coding", "encode"), PACKED)
def test_damaged_data_gives_at_most_what_came_before(coding: str, encode: Callable[[bytes], bytes]) -> None:
    wire = encode(LONG)
    damaged = wire[: len(wire) // 2] + b"\xff" * 64 + wire[len(wire) // 2 :]
    assert decode(damaged, coding, 4 * BIG)[:1000] == LONG[:1000]


@pytest.mark.parametrize(("coding", "encode"), CASES)
def test_a_bomb_stops_at_the_limit(coding: str, encode: Callable[[bytes], bytes]) -> None:
    wire = encode(bytes(64 * BIG))
    assert decode(wire, coding, 1000) == bytes(1000)
    assert decode(ENCODERS["gzip"][0](wire), f"{coding}, gzip", 1000) == bytes(1000) or coding not in ("", "identity")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@given(body=st.binary(max_size=100))
def test_garbage_gives_something_short_or_is_no_such_thing(coding: str, body: bytes) -> None:
    with contextlib.suppress(NotEncodedError):
        assert len(decode(body, coding, 500)) <= 500


@pytest.mark.parametrize(("coding", "encode"), PACKED)
def test_what_does_not_compress_stops_at_the_limit_too(coding: str, encode: Callable[[bytes], bytes]) -> None:
    noise = random.Random(1).randbytes(200_000)
    assert decode(encode(noise), coding, 1000) == noise[:1000]


def test_gzip_members_are_concatenated_and_rubbish_behind_them_is_ignored() -> None:
    assert decode(gzip.compress(b"one ") + gzip.compress(b"two") + b"rubbish", "gzip", BIG) == b"one two"
    assert decode(gzip.compress(b"") * 1000 + gzip.compress(b"late"), "gzip", BIG) == b"", "a member count bomb"


def test_damage_behind_the_limit_does_not_matter() -> None:
    wire = gzip.compress(LONG)
    damaged = wire[: len(wire) // 2] + b"\xff" * 64 + wire[len(wire) // 2 :]
    assert decode(damaged, "gzip", 2000) == LONG[:2000]


def test_an_unknown_coding_says_which_are_known() -> None:
    with pytest.raises(UnknownEncodingError, match="'compress': only gzip, deflate, br and zstd"):
        decode(b"x", "gzip, compress", BIG)


PLAIN = (
    b'data: {"choices":[{"index":0,"delta":{"content":"Rome"}}]}\n\ndata: [DONE]\n\n',
    b'{"error":{"message":"no such model"}}',
    b"[1,2,3]",
    b"<html><body>502 Bad Gateway</body></html>",
    "événement : tout va bien, merci".encode(),
    b"Hello",
)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "deflate, gzip", "br, gzip"])
@pytest.mark.parametrize("body", PLAIN)
def test_what_is_not_encoded_is_not_decoded(coding: str, body: bytes) -> None:
    with pytest.raises(NotEncodedError, match="is something else"):
        decode(body, coding, BIG)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@given(body=st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=4, max_size=2000))
def test_no_text_is_taken_for_something_encoded(coding: str, body: str) -> None:
    with pytest.raises(NotEncodedError):
        decode(body.encode(), coding, BIG)


@pytest.mark.parametrize(("coding", "encode"), PACKED)
@given(body=st.binary(max_size=300) | st.text(max_size=300).map(str.encode), cut=st.integers(0, 400))
def test_what_is_encoded_is_decoded_however_short_or_cut(
    coding: str, encode: Callable[[bytes], bytes], body: bytes, cut: int
) -> None:
    wire = encode(body)
    assert decode(wire, coding, BIG) == body
    with contextlib.suppress(NotEncodedError):  # a few bytes of it may look like a word
        assert body.startswith(decode(wire[:cut], coding, BIG))


def test_many_codings_cost_nothing() -> None:
    wire = b"x" * BIG
    began = time.monotonic()
    with pytest.raises(UnknownEncodingError, match="1101 codings; at most 3"):
        decode(wire, ", ".join(["deflate"] * 1101), BIG)
    assert decode(wire, ", ".join(["identity"] * 1101), BIG) == wire
    assert time.monotonic() - began < 1.0


def test_many_members_do_not_copy_the_body_again_and_again() -> None:
    wire = gzip.compress(b"") * 255 + gzip.compress(random.Random(1).randbytes(4 * BIG))
    began = time.process_time()
    assert len(decode(wire, "gzip", 8 * BIG)) == 4 * BIG
    assert time.process_time() - began < 1.0


def test_a_text_cut_within_a_character_is_one() -> None:
    with pytest.raises(NotEncodedError):
        decode("é".encode() * 255 + b"a" + "é".encode() * 100, "br", BIG)
    assert decode(b"\x0b\x02\x80hello\x03", "br", BIG) == b"hello"
