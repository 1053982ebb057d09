"""JSON pointers: the table of RFC 6901 §5, and what is no pointer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.pointer import MISSING, JsonPointer, first_found

DOCUMENT: dict[str, Any] = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8,
    "none": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
        ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8), ("/none", None),
        ("/foo/2", MISSING), ("/foo/-", MISSING), ("/foo/01", MISSING), ("/foo/-1", MISSING), ("/foo/0/0", MISSING),
        ("/absent", MISSING), ("/absent/deeper", MISSING), ("/foo/99999999999", MISSING),
    ],
)  # fmt: skip
def test_what_a_pointer_finds(pointer: str, value: Any) -> None:
    assert JsonPointer(pointer).find(DOCUMENT) == value


@pytest.mark.parametrize("text", ["foo", "/a~b", "/a~", "#/foo"])
def test_what_is_no_pointer(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 6901"):
        JsonPointer(text)


def test_the_first_that_finds_a_value_wins() -> None:
    pointers = [JsonPointer(text) for text in ("/absent", "/none", "/foo/1", "/foo/0")]
    assert first_found(pointers, DOCUMENT) == "baz"
    assert first_found(pointers[:2], DOCUMENT) is MISSING
    assert (repr(MISSING), repr(pointers[0])) == ("MISSING", "JsonPointer('/absent')")


@given(st.lists(st.text(max_size=4), max_size=5))
def test_every_path_of_names_can_be_written(names: list[str]) -> None:
    document: Any = "here"
    for name in reversed(names):
        document = {name: document}
    text = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    assert JsonPointer(text).find(document) == "here"
