"""Newline-delimited JSON: values by line, damage skipped, any chunking the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.ndjson import NdjsonDecoder


def decode(*chunks: bytes) -> list[Any]:
    decoder = NdjsonDecoder()
    return [value for chunk in chunks for value in decoder.feed(chunk)] + decoder.finish()


def test_one_value_a_line() -> None:
    assert decode(b'{"a":1}\r\n\n[2]\n  \n"three"') == [{"a": 1}, [2], "three"]


def test_what_is_no_json_is_skipped() -> None:
    assert decode(b'{"a":1}\nnonsense\n{"b":2}\n{"cut": "of') == [{"a": 1}, {"b": 2}]


@given(st.lists(st.sampled_from([b'{"a":1}', b"\n", b"\r\n", b" ", b"12", b"x"]), max_size=20).map(b"".join), st.data())
def test_any_chunking_gives_the_same_values(stream: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(stream)))
    assert decode(stream[:cut], stream[cut:]) == decode(stream) == decode(*(bytes([byte]) for byte in stream))
