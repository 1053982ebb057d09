"""JSON arrays as streams: element by element, with where each ends, also of arrays that were cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.jsonarray import begins_array, read_array


def values(body: bytes) -> list[Any]:
    return [value for _, value in read_array(body)[0]]


def test_elements_and_where_they_end() -> None:
    body = '[{"a": "é,]"}\n,\r\n{"b": 2}\n]\n'.encode()
    elements, whole = read_array(body)
    assert whole
    assert [value for _, value in elements] == [{"a": "é,]"}, {"b": 2}]
    assert [body[:end].decode()[-8:] for end, _ in elements] == [': "é,]"}', '{"b": 2}']


@pytest.mark.parametrize(
    ("body", "found", "whole"),
    [
        (b"[]", [], True),
        (b"[", [], False),
        (b" [ {} ", [{}], False),
        (b'[{"a":1},{"b":', [{"a": 1}], False),
        (b"[{},oops,{}]", [{}], False),
        (b"[{}] and more", [{}], False),
        (b'[{"a": NaN, "b": "\\ud83d"}]', None, True),
        (b"\xef\xbb\xbf[{}]", [{}], True),
        (b"[" + b'{"a":[' * 100_000, [], False),
    ],
)  # fmt: skip
def test_what_is_whole_is_read(body: bytes, found: list[Any] | None, whole: bool) -> None:
    assert read_array(body)[1] is whole
    if found is not None:
        assert values(body) == found


@pytest.mark.parametrize(
    ("body", "yes"),
    [(b"[{", True), (b"[\n {", True), (b"[", True), (b" [{", True), (b"\xef\xbb\xbf[{", True),
     (b"[1", False), (b"{", False), (b"[]", False), (b"", False), (b"[[", False)],
)  # fmt: skip
def test_how_an_array_of_objects_begins(body: bytes, yes: bool) -> None:
    assert begins_array(body) is yes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=5), st.booleans(), st.integers(0, 300))
def test_a_cut_array_gives_what_came_before_the_cut(objects: list[Any], ascii_only: bool, cut: int) -> None:
    body = json.dumps(objects, ensure_ascii=ascii_only, indent=1).encode("utf-8", "surrogatepass")
    elements, whole = read_array(body)
    assert whole
    assert [value for _, value in elements] == objects
    assert all(body[:end].endswith(b"}") for end, _ in elements)
    found, cut_whole = read_array(body[:cut])
    assert [value for _, value in found] == objects[: len(found)]
    assert len(found) == sum(end <= cut for end, _ in elements)
    assert cut_whole == (cut >= len(body))
