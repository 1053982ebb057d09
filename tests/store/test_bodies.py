"""Packing a body and unpacking it gives the body, whatever is in it."""

from __future__ import annotations

import random

import orjson
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.ingest.bodies import grouped
from proxy.store.ingest.compressing import Compressor
from proxy.store.ingest.packing import Search, in_blocks, joined, pack, split, unpack
from proxy.store.tables.keys import (
    BLOCK_RECORDS,
    DAY_US,
    block_floor,
    block_key,
    day_of,
    id_floor,
    id_of_block,
    id_time_us,
)
from proxy.store.tables.values import BodyPayload
from tests.harness.exchanges import sentences

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
words = st.dictionaries(texts, texts, max_size=3)


@st.composite
def payloads(draw: st.DrawFn) -> BodyPayload:
    query, answer = draw(st.none() | texts), draw(st.none() | texts)
    said = draw(st.sampled_from([b"", b"\xff\x00", orjson.dumps({"q": query, "n": 1}), draw(st.binary(max_size=50))]))
    return BodyPayload(
        method=draw(texts),
        target=draw(texts),
        request_headers=draw(words),
        response_headers=draw(words),
        request=said,
        response=draw(st.sampled_from([orjson.dumps([answer]), b"", b"plain"])),
        query=query,
        response_text=answer,
        messages=tuple(draw(st.lists(words, max_size=3))),
        request_sha256=draw(st.none() | texts),
        error=draw(st.none() | texts),
        tags=draw(words),
    )


@given(payloads())
def test_a_body_survives_packing(body: BodyPayload) -> None:
    assert unpack(pack(body)) == body


@given(payloads(), st.data())
def test_a_search_finds_whoever_says_the_words_in_any_case(body: BodyPayload, data: st.DataObject) -> None:
    """Without unpacking most that do not say them, and yet none is missed: escapes, and letters that fold to others."""
    said = "".join(part for part in (body.query, body.response_text) if part)
    start = data.draw(st.integers(0, len(said)))
    looked_for = (
        data.draw(st.sampled_from([said[start : start + 3], said[start : start + 3].swapcase(), "k", "ss", '"'])) or "e"
    )
    says = any(looked_for.casefold() in part.casefold() for part in (body.query, body.response_text) if part)
    assert Search(looked_for).finds(pack(body)) == (body if says else None)


def test_letters_that_fold_to_plain_ones_are_found() -> None:
    body = BodyPayload(method="POST", target="/", query="273 \u212a, a STRA\u1e9eE", response_text="no")
    assert [Search(words).finds(pack(body)) for words in ("273 k", "strasse", "stranger")] == [body, body, None]


def test_a_text_that_the_body_holds_is_not_kept_twice() -> None:
    text = "the same words, said at some length\n" * 40
    request = orjson.dumps({"messages": [{"role": "user", "content": text}]})
    body = BodyPayload(
        method="POST", target="/", request=request, query=text, messages=({"role": "user", "content": text},)
    )
    assert len(pack(body)) < len(request) + 200
    assert unpack(pack(body)) == body


@given(
    st.lists(st.sampled_from(["a" * 30, "b", '"', "é"]), max_size=9).map("".join),
    st.integers(0, 99),
    st.integers(24, 60),
)
def test_a_text_is_referred_to_where_the_body_says_it_first(said: str, start: int, length: int) -> None:
    text = said[start : start + length]
    source, inside = orjson.dumps(["a" * 28 + "b", said]), orjson.dumps(text)[1:-1]
    packed = pack(BodyPayload(method="", target="", request=source, query=text))
    facts = orjson.loads(packed[12 + len(source) :])
    assert facts[4] == ([source.find(inside), len(inside)] if len(text) >= 24 else text)


@given(st.integers(0, 4_000_000_000_000_000), st.integers(0, 2**80 - 1))
def test_block_keys_are_in_order_of_time(at_us: int, tail: int) -> None:
    record_id = id_floor(at_us)[:12] + f"{tail:020x}"
    key = block_key(record_id)
    assert 0 <= key < 2**63
    assert key % BLOCK_RECORDS == 0
    assert block_floor(id_floor(at_us)) <= key < block_floor(id_floor(at_us + 1000))
    assert id_time_us(id_of_block(key)) == at_us // 1000 * 1000


def test_places_are_grouped_by_block() -> None:
    assert grouped([128, 130, None, 64, 130]) == {128: {0, 2}, 64: {0}}


PACKED = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=9), st.sampled_from([1, 70_000])), max_size=200)


@given(PACKED)
def test_blocks_hold_neighbours_of_one_day(bodies: list[tuple[int, bytes, int]]) -> None:
    ids = [id_floor(day * DAY_US + at * 1000) for at, (day, _, _) in enumerate(sorted(bodies))]
    packed = [(name, body * times) for name, (_, body, times) in zip(ids, sorted(bodies), strict=True)]
    blocks = in_blocks(packed)
    assert [one for block in blocks for one in block] == packed
    assert all(split(joined([body for _, body in block])) == [body for _, body in block] for block in blocks)
    assert all(len(block) <= BLOCK_RECORDS and len({day_of(name) for name, _ in block}) == 1 for block in blocks)
    assert all(len(block) == 1 or sum(len(body) for _, body in block) <= 256 * 1024 for block in blocks)
    assert len(blocks) <= 4 + len(packed) // BLOCK_RECORDS + sum(len(body) for _, body in packed) // (128 * 1024)


def test_however_a_block_is_compressed_it_says_how_it_is_read() -> None:
    text = "\n".join(sentences()[:4000]).encode()
    samples = [text[at : at + 1500] for at in range(100_000, 300_000, 1500)]
    dictionary = zstandard.train_dictionary(8192, samples).as_bytes()
    for known in (None, dictionary):
        for size in (0, 1600, 60_000, 100_000):
            packed, with_words = Compressor(known).compress(text[:size])
            words = zstandard.ZstdCompressionDict((known or b"") if with_words else b"")
            assert zstandard.ZstdDecompressor(dict_data=words).decompress(packed) == text[:size]
            assert with_words == (size < 64 * 1024)


def test_what_a_long_block_repeats_is_found() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    for known in (None, noise[:9000]):
        assert len(Compressor(known).compress(noise * 3)[0]) < 1.1 * len(noise)
