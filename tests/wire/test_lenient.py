"""JSON as it really comes: the strict reads as ever, the sloppy reads as a person would read it, the rest is none."""

import codecs
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.lenient import mended, mended_text, read_event, read_json, text_of


@pytest.mark.parametrize(
    ("body", "charset", "value"),
    [
        (b'{"a":1}', None, {"a": 1}),
        (b'\xef\xbb\xbf{"a":"\xc3\xa9"}', None, {"a": "é"}),
        (b'{"a":"caf\xe9"}', None, {"a": "café"}),
        (b'{"a":"\xe9t\xe9 \xc3\xa9t\xc3\xa9"}', None, {"a": "été été"}),
        (b'{"a":"\x93quoted\x94 \xff\xfe"}', None, {"a": "�quoted� ÿþ"}),
        ('{"a":"é"}'.encode("latin-1"), "ISO-8859-1", {"a": "é"}),
        ('{"a":"é"}'.encode(), "ISO-8859-1", {"a": "é"}),
        ('{"a":"Ж"}'.encode("cp1251"), "windows-1251", {"a": "Ж"}),
        ('{"a":"é"}'.encode("utf-16"), None, {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16"), "utf-16", {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16-le"), None, {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16-be"), None, {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16-be"), "utf-16be", {"a": "é"}),
        ('{"a":"é"}'.encode("utf-32-le"), None, {"a": "é"}),
        ('{"a":"é"}'.encode("utf-32-be"), None, {"a": "é"}),
        (codecs.BOM_UTF32_LE + '{"a":"é"}'.encode("utf-32-le"), None, {"a": "é"}),
        (b'{"a":"cut \\ud83d"}', None, {"a": "cut �"}),
        (b'{"a":"\\ud83d\\ude42 \\ude42\\ud83d"}', None, {"a": "🙂 ��"}),
        (b'{"\\ud83d":["\\udc00"]}', None, {"�": ["�"]}),
        (b'{"a":"\xed\xa0\xbd\xed\xb9\x82"}', None, {"a": "🙂"}),
        (b'{"a":"\xed\xa0\xbd"}', None, {"a": "�"}),
        (b'{"a":"tab\there\nline"}', None, {"a": "tab\there\nline"}),
        (b'{"a":Infinity,"b":-Infinity}', None, {"a": math.inf, "b": -math.inf}),
        (b'{"n":99999999999999999999,"m":-9223372036854775809,"i":1e3}', None,
         {"n": 1e20, "m": -9223372036854775809.0, "i": 1000.0}),
        (b'[NaN,18446744073709551615,-9223372036854775808,99999999999999999999999]'.replace(b"NaN", b"Infinity"), None,
         [math.inf, 18446744073709551615, -9223372036854775808, 1e23]),
    ],
)  # fmt: skip
def test_what_a_person_can_read_is_read(body: bytes, charset: str | None, value: Any) -> None:
    assert read_json(body, charset) == value
    assert orjson.dumps(read_json(bytearray(body), charset)) is not None


def test_nan_is_a_number_that_is_none() -> None:
    assert math.isnan(read_json(b"NaN"))


@pytest.mark.parametrize(
    "charset",
    [
        "hex",
        "rot13",
        "base64",
        "zlib",
        "unicode_escape",
        "idna",
        "undefined",
        "martian",
        "utf-9",
        "cp\x00",
        "us-ascii",
        "",
    ],
)
def test_a_charset_that_is_none_for_text_is_utf8(charset: str) -> None:
    assert read_json(b'\xef\xbb\xbf{"a":"\xc3\xa9 caf\xe9"}', charset) == {"a": "é café"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1", b'{"a":}', b"{'a':1}", b"\xff", b"<html>", b"\0", b'{"a":1}{', b"a=1"]
)
def test_what_is_no_json_stays_none(body: bytes) -> None:
    for read in (read_json, read_event):
        with pytest.raises(ValueError):
            read(body)


@pytest.mark.parametrize("depth", [2000, 200_000])
def test_hostile_depth_is_refused(depth: int) -> None:
    for read in (read_json, read_event):
        with pytest.raises(ValueError):
            read(b"[" * depth + b"NaN" + b"]" * depth)


def test_events_keep_the_halves_until_the_whole_text_is_there() -> None:
    parts = [read_event(b'{"a":"\\ud83d"}')["a"], read_event(b'{"a":"\\ude42"}')["a"]]
    assert mended("".join(parts)) == "🙂"
    assert mended(parts) == ["�", "�"]
    assert mended({"\ud83d": [1, None, "\ude42", {"a": "b"}]}) == {"�": [1, None, "�", {"a": "b"}]}
    assert mended_text("plain") == "plain"
    assert mended_text("é 🙂") == "é 🙂"


def test_text_is_read_by_its_mark_before_its_name() -> None:
    assert text_of("é".encode("utf-8-sig"), "utf-16") == "é"
    assert text_of(b"a\0b", None) == "a\0b"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES, st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]))
def test_any_json_reads_the_same_in_any_encoding(value: Any, ascii: bool, encoding: str) -> None:
    body = json.dumps([value], ensure_ascii=ascii).encode(encoding, "replace")
    assert read_json(body) == [value]


@given(st.text(st.characters(categories=["L", "Cs", "So", "P"]), max_size=12), st.integers(0, 12))
def test_no_split_of_a_text_changes_what_it_says(text: str, cut: int) -> None:
    """Halves are joined wherever they are cut, and what cannot be written as UTF-8 never remains."""
    whole = read_json(json.dumps({"t": text}).encode())["t"]
    pieces = [read_event(json.dumps(piece).encode()) for piece in (text[:cut], text[cut:])]
    assert mended_text("".join(pieces)) == whole
    assert whole.encode().decode() == whole


@given(st.binary(max_size=60), st.sampled_from([None, "utf-16", "latin-1", "shift_jis", "utf-7", "hex", "x"]))
def test_bytes_are_json_or_a_value_error(body: bytes, charset: str | None) -> None:
    try:
        value = read_json(body, charset)
    except ValueError:
        return
    assert orjson.dumps(value) is not None
