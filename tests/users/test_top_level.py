"""The scanner of top-level fields, and the swap of the model's name: what parsing would find, however a body comes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.gateway.model_field import replace_model
from proxy.users.body_watch import Watch
from proxy.users.top_level import TopLevel

LONG = 1 << 20
WANTED = {b"user": LONG, b"metadata": LONG, 'ü"\\'.encode(): LONG}


def scan(body: bytes, cuts: Iterable[int] = (), wanted: Mapping[bytes, int] = WANTED) -> TopLevel:
    """What is found in `body`, fed in pieces."""
    scanner = TopLevel(wanted)
    for start, end in pairwise(sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})):
        scanner.feed(body[start:end])
    return scanner


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b'\xef\xbb\xbf {"x":{"model":"a"},"model" :\t"a" }', b'\xef\xbb\xbf {"x":{"model":"a"},"model" :\t"new" }'),
        (b'{"x":["model","a"],"y":"\\"model\\":1"}', b'{"x":["model","a"],"y":"\\"model\\":1"}'),
        (b'{"mod\\u0065l":"a","model":"b"}', b'{"mod\\u0065l":"new","model":"new"}'),
        (b'{"model":null,"n":1e3}', b'{"model":null,"n":1e3}'),
        (b'{"model":{"model":"a"}}', b'{"model":{"model":"a"}}'),
        (b'["model","a"]', b'["model","a"]'),
        (b"", b""),
        (b'{"model":"cut', b'{"model":"cut'),
        (b'{"model":"a"} {"model":"b"}', b'{"model":"new"} {"model":"b"}'),
    ],
)  # fmt: skip
def test_only_the_top_level_model_string_changes(body: bytes, expected: bytes) -> None:
    assert replace_model(body, "new") == expected


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=80) | st.sampled_from(
    ["model", "user", '"', "\\", '\\"', "}", '"}', "\\\\", "x" * 70, "é" * 40, '{"user":"no"}']
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=25,
)
documents = st.dictionaries(st.sampled_from(["model", "user", "metadata", 'ü"\\', "messages", "u\\", ""]), json_values)
cuts = st.sets(st.integers(0, 400))


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A document as one of several writers would write it."""
    document = draw(documents)
    indent = draw(st.sampled_from([None, 0, 2, "\t"]))
    spaces = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", " :\t")]))
    text = json.dumps(document, indent=indent, separators=spaces, ensure_ascii=draw(st.booleans()))
    return draw(st.sampled_from([b"", b" \n", b"\xef\xbb\xbf"])) + text.encode(), document


@given(written(), cuts)
def test_fields_are_what_parsing_gives(case: tuple[bytes, dict[str, Any]], cuts: set[int]) -> None:
    body, document = case
    scanner = scan(body, cuts)
    assert scanner.ended
    found = {name.decode(): json.loads(raw) for name, (raw, whole) in scanner.found.items() if whole}
    assert found == {name: document[name] for name in ("user", "metadata", 'ü"\\') if name in document}


@given(written(), cuts)
def test_rewriting_is_what_parsing_and_writing_would_give(case: tuple[bytes, dict[str, Any]], cuts: set[int]) -> None:
    body, document = case
    changed = dict(document)
    if isinstance(changed.get("model"), str):
        changed["model"] = "ü"
    renamed = replace_model(body, "ü", scan(body, cuts).spans)
    assert json.loads(renamed.removeprefix(b"\xef\xbb\xbf")) == changed
    if changed == document:
        assert renamed == body


TOKENS = [b'"model"', b'"user"', b":", b'"a"', b"{", b"}", b"[", b"]", b",", b'"us\\u0065r"', b" 1", b'"\\"', b"\\",
          b'"', b'"' + b"x" * 70, b"NaN", b"\xff", b"\\\\"]  # fmt: skip


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=16).map(lambda parts: b"{" + b"".join(parts)),
    cuts,
)
@example(b'{"a":"\\\\\\"","user":"ann"}', {8, 9, 10})
def test_any_bytes_give_the_same_however_they_are_cut(body: bytes, cuts: set[int]) -> None:
    whole, cut = scan(body), scan(body, cuts)
    assert (cut.found, cut.spans, cut.ended) == (whole.found, whole.spans, whole.ended)
    assert replace_model(body, "x", cut.spans) == replace_model(body, "x")


@given(st.lists(st.sampled_from(TOKENS), max_size=10), cuts)
def test_what_a_value_is_made_of_hides_nothing_behind_it(parts: list[bytes], cuts: set[int]) -> None:
    """Whatever stands in a string: control characters, stray bytes, halves of characters."""
    inside = b"".join(parts).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    scanner = scan(b'{"x":[{"y":"%b"}],"z":"%b","user":"ann"}' % (inside, inside), cuts)
    assert scanner.found[b"user"] == (b'"ann"', True)


def test_of_a_name_given_twice_the_last_counts() -> None:
    body = b'{"user":"a","us\\u0065r":"b"}'
    assert scan(body).found[b"user"] == (b'"b"', True)
    assert orjson.loads(body)["user"] == "b"


@pytest.mark.parametrize("cuts", [set(), {10, 12, 20}])
def test_of_a_long_value_the_beginning_is_kept(cuts: set[int]) -> None:
    body = b'{"user": [1,2,3,4,5,6], "metadata":"m", "messages":"0123456789'
    scanner = scan(body, cuts, {b"user": 5, b"metadata": 5, b"messages": 5})
    assert scanner.found == {b"user": (b" [1,2", False), b"metadata": (b'"m"', True)}
    assert scanner.so_far(b"messages") == b'"0123'
    assert scanner.so_far(b"user") == b" [1,2"
    assert scanner.so_far(b"other") is None


@pytest.mark.parametrize(
    ("body", "ended"),
    [(b"", False), (b' {"messages":[]', False), (b'{"model":"a"', False), (b"{}", True), (b"\xef\xbb\xbf{}", True),
     (b"[", True), (b"a=b", True), (b'{"a":1}\n{"b"', True)],
)  # fmt: skip
def test_when_nothing_more_of_a_body_is_waited_for(body: bytes, ended: bool) -> None:
    assert scan(body).ended is ended


def test_a_scanner_that_has_ended_says_where() -> None:
    scanner = TopLevel({b"role": 9})
    scanner.feed(b'[{"role":"a"},{"role":"b"}]', 1)
    assert (scanner.ended, scanner.stopped_at) == (True, 13)


HOSTILE = {
    "opened": b'{"a":' + b"[" * 4_000_000,
    "opened and closed": b'{"a":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b',"user":"ann"}',
    "closed too often": b'{"a":[' + b"]" * 4_000_000,
    "pairs": b'{"a":[' + b"[[]]," * 800_000 + b'0],"user":"ann"}',
    "pairs around strings": b'{"a":[' + b'["\\\\"],' * 500_000 + b'0],"user":"ann"}',
    "names": b"{" + b'"":"",' * 600_000 + b'"user":"ann"}',
    "quotes": b'{"a":"' + b'\\"' * 2_000_000,
    "backslashes": b'{"a":"' + b"\\" * 4_000_000,
    "backslashes and quotes": b'{"a":"' + b'\\\\\\"' * 1_000_000,
    "strings that break off": b'{"a":[' + b'"\\x' * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [4096, 262144])
def test_no_bytes_make_it_slow(name: str, size: int) -> None:
    body = HOSTILE[name]
    scanner = TopLevel(WANTED)
    began = time.process_time()
    for start in range(0, len(body), size):
        scanner.feed(body[start : start + size])
    assert time.process_time() - began < 5.0  # 4 MB; what is not linear in them takes hours


def test_a_usual_body_never_asks_for_too_many_steps() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
        "a": {"type": "string", "enum": ["x"]}, "b": {"type": "array", "items": {"type": "number"}}}}}}  # fmt: skip
    turn = {"role": "user", "content": 'She said: "no".\n' * 20}
    for value in (tool, turn, [0.25] * 20, "word", 7, [[0, 1], [2, 3]]):
        body = orjson.dumps({"x": [value] * (4_000_000 // len(orjson.dumps(value))), "user": "ann"})
        assert scan(body, set(range(0, len(body), 262144))).found[b"user"] == (b'"ann"', True)


DENSE = [
    b"[", b"[],", b"{},", b'["', b'"",', b'"', b'"a":1,', b'"a":"b",', b"[[[[]]]],", b'"user":"a",', b'"\\\\",', b",",
    b":",
    b'[{"a":[{"b":[{"c":"d' + b"e" * 64 + b'"}]}]}],', b'["' + b"a" * 70 + b'"],', b"[[[[[[[[{}]]]]]]]],",
]  # fmt: skip


@pytest.mark.parametrize("within", [b"{", b'{"messages":['])
@pytest.mark.parametrize("unit", DENSE)
def test_no_piece_holds_the_loop_up(unit: bytes, within: bytes) -> None:
    """A millisecond or two on an idle machine; what asks for more is not looked at any further."""
    piece = within + unit * (65536 // len(unit))
    took = []
    for _ in range(5):
        watch = Watch({b"user": 65536, b"messages": 262144}, "application/json", None)
        began = time.process_time()
        watch.feed(piece)
        took.append(time.process_time() - began)
    assert min(took) < 0.01
