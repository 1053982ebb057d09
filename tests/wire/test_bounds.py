"""Hostile bytes cost whoever reads them a bounded time and a bounded memory, whatever they are."""

from __future__ import annotations

import base64
import gzip
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import brotli
import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.decode import NotEncodedError, UnknownEncodingError, unpacked
from proxy.wire.extract import CapturedExchange, converse, extract
from proxy.wire.extract.calls import Calls
from proxy.wire.extract.frames import read_frames
from proxy.wire.extract.values import json_in
from proxy.wire.lenient import MAX_VALUES, crowded, text_of

MIB = 1 << 20
PACK = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": lambda data: brotli.compress(data, quality=2),
    "zstd": zstandard.ZstdCompressor(write_content_size=False).compress,
}  # fmt: skip
ASK = b'{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}'
ANSWER = b'{"choices":[{"message":{"role":"assistant","content":"Rome"},"finish_reason":"stop"}]}'


@contextmanager
def bounded(*, seconds: float, mib: float = 0) -> Iterator[None]:
    """What is done within takes no more CPU time (twenty times what it takes on an idle machine), and no more memory,
    whose counting takes three times as long."""
    if mib:
        tracemalloc.start()
    began = time.process_time()
    try:
        yield
        took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= mib * MIB, f"{peak / MIB:.0f} MiB"
    assert took < seconds


def ask(body: bytes) -> CapturedExchange:
    return CapturedExchange(target="/v1/chat/completions", request=body, response=ANSWER,
                            request_type="application/json", response_type="application/json")  # fmt: skip


def answer(
    body: bytes, content_type: str = "application/json", target: str = "/v1/chat/completions"
) -> CapturedExchange:
    return CapturedExchange(target=target, request=ASK, response=body,
                            request_type="application/json", response_type=content_type)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.integers(1, 200_000), st.lists(st.sampled_from(sorted(PACK)), max_size=3),
       st.integers(1, 300_000))  # fmt: skip
def test_one_budget_holds_for_all_codings_of_a_body(unit: bytes, times: int, chain: list[str], budget: int) -> None:
    whole = unit * times
    wire, inner = whole, 0
    for coding in chain:
        inner += len(wire) if wire is not whole else 0
        wire = PACK[coding](wire)
    try:
        with bounded(mib=6 + 6 * budget / MIB, seconds=20):
            body, cut = unpacked(wire, ", ".join(chain), budget)
    except NotEncodedError:
        assert len(wire) < 16, "a few bytes may look like a word"
    except UnknownEncodingError:
        assert inner >= budget
    else:
        assert whole.startswith(body)
        assert cut == (len(body) < len(whole))
        assert not chain or len(body) + inner <= budget
        assert cut or inner + len(whole) <= budget or not chain


def test_more_than_three_codings_are_not_undone() -> None:
    wire = b"x" * MIB
    for _ in range(4):
        wire = gzip.compress(wire)
    with pytest.raises(UnknownEncodingError, match="4 codings; at most 3"):
        unpacked(wire, "gzip, gzip, gzip, gzip", 4 * MIB)


def test_what_takes_all_of_the_budget_on_the_way_stays_packed() -> None:
    with pytest.raises(UnknownEncodingError, match="more would be decoded than is allowed"):
        unpacked(gzip.compress(zlib.compress(bytes(MIB), 0)), "deflate, gzip", 1000)


def test_a_zstd_window_is_as_http_allows_it() -> None:
    wide = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27))
    stream = wide.compressobj()
    with pytest.raises(NotEncodedError):
        unpacked(stream.compress(b"a" * MIB) + stream.flush(), "zstd", 4 * MIB)


UNITS = [
    b"[]", b"{}", b"0", b'"a"', b'{"a":1}', b'{"a":{}}', b"[[[]]]", b'["x"]', b'{"role":"user"}', b"0.5", b"NaN",
    b'{"a":[{}]}', b'{"role":"user","content":"\\u0061"}', b'{"type":"text","text":"a"}', b"9" * 400, b'"\xe9"',
]  # fmt: skip
PLACES = [
    b"%b", b'{"messages":%b}', b'{"messages":[{"role":"user","content":%b}]}', b'{"choices":%b}', b'{"input":%b}',
    b'{"choices":[{"message":{"role":"assistant","content":%b}}]}', b'{"data":%b}', b'{"tools":%b,"messages":[]}',
    b'{"choices":[{"message":{"role":"assistant","tool_calls":%b}}]}',
]  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(UNITS), st.sampled_from(PLACES), st.sampled_from([1 << 14, 1 << 18, 1 << 22]))
def test_documents_of_many_values_are_read_within_bounds_or_not_at_all(unit: bytes, place: bytes, size: int) -> None:
    body = place % (b"[" + b",".join([unit] * (size // (len(unit) + 1))) + b"]")
    for exchange in (ask(body), answer(body)):
        with bounded(mib=80, seconds=20):
            found = extract(exchange)
            converse(exchange)
        assert found.unread or not crowded(body)
        assert len(found.messages) <= 10_000


EVENTS = [
    b"data: {}", b"data: 1", b"data:", b"{}", b'data: {"a', b"event: error", b": ping", b"x",
    b'data: {"choices":[{"delta":{"content":"a"}}]}',
    b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{"}}]}}]}',
]  # fmt: skip


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(EVENTS), st.sampled_from([b"\n", b"\n\n", b"\r"]), st.sampled_from([1 << 16, 1 << 19, 1 << 22]))
def test_streams_of_many_events_are_read_within_bounds_or_not_at_all(event: bytes, end: bytes, size: int) -> None:
    body = (event + end) * (size // len(event + end))
    with bounded(mib=80, seconds=40):
        found = extract(answer(body, "text/event-stream"))
    assert found.unread or len(body) < 1 << 20


TEXTS = {
    "calls in a block": "```\n" + "<tool_call>\n" * 90_000, "thoughts": "a<think>\n" * 110_000,
    "thoughts that close": "<think>a</think>" * 60_000, "thoughts in a block": "```\n" + "<think>\n" * 120_000,
    "blocks": "```\n" * 250_000, "a block of nothing": "```" + "\n" * 1_000_000 + "x",
    "blocks of nothing": "```x\n" + "\n ```" * 200_000 + "x",
    "a call": "f(" + ")  " * 300_000, "JSON": "[" + "[]," * 300_000,
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_read_in_linear_time(name: str) -> None:
    said = orjson.dumps(TEXTS[name])
    with bounded(seconds=20):
        for place in (
            b'{"role":"assistant","content":%b}',
            b'{"role":"assistant","tool_calls":[{"function":{"arguments":%b}}]}',
        ):
            converse(answer(b'{"choices":[{"message":' + place % said + b"}]}"))
            extract(answer(b'{"choices":[{"message":' + place % said + b"}]}"))


def test_results_without_an_id_find_their_call_at_once() -> None:
    calls = b",".join(b'{"id":"c%d","function":{"name":"f%d"}}' % (n, n) for n in range(40_000))
    results = b",".join([b'{"role":"tool","name":"g","content":"x"}'] * 9_000)
    body = b'{"messages":[{"role":"assistant","tool_calls":[' + calls + b"]}," + results + b"]}"
    with bounded(seconds=20):
        assert not extract(ask(body)).unread
        assert len(converse(ask(body)).turns) == 9_001


def test_a_call_whose_id_comes_again_is_the_newest() -> None:
    calls = b'{"id":"a","function":{"name":"f"}},{"id":"a","function":{"name":"g"}}'
    body = b'{"messages":[{"role":"assistant","tool_calls":[' + calls + b']},{"role":"tool","name":"g","content":"x"}]}'
    assert converse(ask(body)).turns[-1].call_id == "a"


def test_calls_in_one_list_are_told_apart_in_linear_time() -> None:
    calls = Calls()
    with bounded(seconds=10):
        calls.add([{"function": {"name": "f", "arguments": "{}"}}] * 50_000)
    assert len(calls.whole()) == 50_000


def test_arguments_are_looked_at_only_so_often() -> None:
    calls = Calls()
    with bounded(seconds=10):
        for n in range(200):
            calls.add([{"index": 0, "id": f"{n}", "function": {"arguments": '{"a": "' + "x" * 20_000}}])
    assert len(calls.whole()) == 1


def test_what_is_crowded_keeps_what_else_is_known() -> None:
    found = extract(ask(b'{"messages":[[]' + b",[]" * MAX_VALUES + b"]}"))
    assert (found.unread, found.messages, found.query, found.kind) == (True, (), None, "chat")
    found = extract(answer(b"[[]" + b",[]" * MAX_VALUES + b"]"))
    assert (found.unread, found.query, found.response) == (True, "hi", None)
    for name in (b"choices", b"output", b"content"):
        assert extract(answer(b'{"%b":[0' % name + b",0" * 10_000 + b"]}")).unread
    held = "[[]" + ",[]" * MAX_VALUES + "]"
    assert json_in(held) == held


@pytest.mark.parametrize("body", [
    b'{"data":[' + b",".join([b'{"embedding":[' + b",".join([b"0.0123456"] * 1536) + b"]}"] * 60) + b"]}",
    b'{"choices":[{"message":{"role":"assistant","content":"Rome"},"logprobs":{"content":['
    + b",".join([b'{"token":"a","logprob":-0.1,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.1}]}'] * 9000)
    + b"]}}]}",
])  # fmt: skip
def test_a_megabyte_of_what_servers_really_send_is_read(body: bytes) -> None:
    assert 700_000 < len(body) <= MIB
    with bounded(mib=60, seconds=10):
        assert not extract(answer(body)).unread


def test_a_text_of_other_letters_is_read_as_they_are_and_one_of_nothing_else_quickly() -> None:
    assert text_of("Grüße".encode("latin-1")) == "Grüße"
    assert text_of("Grüße ".encode("latin-1") * 10_000) == "Grüße " * 10_000
    with bounded(mib=60, seconds=5):
        assert text_of(b"a\xe9" * MIB) == "a\ufffd" * MIB


def frame(headers: bytes, payload: bytes) -> bytes:
    lengths = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    data = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + payload
    return data + struct.pack(">I", zlib.crc32(data))


def chunk(event: bytes) -> bytes:
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in ((b":message-type", b"event"), (b":event-type", b"chunk"))
    )
    return frame(headers, orjson.dumps({"bytes": base64.b64encode(event).decode()}))


@pytest.mark.parametrize("body", [
    frame(b"", b"") * 60_000, frame(b"\1a\0" * 40_000, b"") * 8, chunk(b'{"a":[[]' + b",[]" * 100_000 + b"]}") * 3,
], ids=["frames", "headers", "values"])  # fmt: skip
def test_binary_frames_are_read_within_bounds(body: bytes) -> None:
    with bounded(seconds=20):
        found = read_frames(body)
    assert found.unread
    assert len(found.events) <= 50_000
    assert found.events, "what came before is read"
