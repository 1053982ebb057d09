"""Differences between two answers: marked where they are, put together again to the text, in bounded time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.web.checks.marking import Piece, mark


def shown(pieces: tuple[Piece, ...]) -> str:
    return "".join(f"[{piece.text}]" if piece.marked else piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("left", "right", "on_left", "on_right"),
    [
        ("the cat sat", "the dog sat", "the [cat] sat", "the [dog] sat"),
        ("the cat sat", "the cat sat down", "the cat sat", "the cat sat [down]"),
        ("yes", "", "[yes]", ""),
        ("a  b\nc", "a b c", "a  b\nc", "a b c"),
        ("30 days", "14 days", "[30] days", "[14] days"),
        ("within 30 days.", "within 30 days!", "within 30 days[.]", "within 30 days[!]"),
        ("今日は雨", "今日は雪", "今日は[雨]", "今日は[雪]"),
    ],
    ids=["a word", "an end", "nothing", "only spaces", "a number", "a mark", "no spaces between words"],
)
def test_what_the_other_has_not_is_marked(left: str, right: str, on_left: str, on_right: str) -> None:
    found = mark(left, right)
    assert (shown(found.left), shown(found.right), found.by) == (on_left, on_right, "words")


def test_equal_texts_have_nothing_marked() -> None:
    assert mark("the same", "the same").by == ""
    assert mark("", "") == mark("", "")


@given(st.text(alphabet="ab \n\t.日\u0301", max_size=60), st.text(alphabet="ab \n\t.日\u0301", max_size=60))
def test_pieces_put_together_are_the_text_and_swapping_sides_keeps_them(left: str, right: str) -> None:
    found = mark(left, right)
    assert "".join(piece.text for piece in found.left) == left
    assert "".join(piece.text for piece in found.right) == right
    unmarked = ["".join("".join(p.text for p in side if not p.marked).split()) for side in (found.left, found.right)]
    assert not found.by or unmarked[0] == unmarked[1]


def test_long_texts_are_compared_by_lines() -> None:
    left = "\n".join(f"the line {n} of the text" for n in range(400))
    found = mark(left, left.replace("line 7 of", "line seven of"))
    assert found.by == "words", "a common beginning and end cost nothing"
    found = mark(left, "\n".join(f"the line {n} of the text" for n in range(400) if n % 7) + " a text")
    assert found.by == "lines"
    assert "the line 14 of the text\n" in [piece.text for piece in found.left if piece.marked]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a " * 90_000, "b " + "a " * 90_000),
        ("".join(f"x{n} c " for n in range(173)), "".join(f"y{n} c " for n in range(173))),
        ("a\nb\n" * 40_000, "b\na\n" * 40_000),
        (" " * 90_000, " " * 90_000 + "x"),
        ("".join(f"{n} " for n in range(15_000)), "".join(f"{n} " for n in range(15_000, 0, -1))),
        ("x" * 5_000_000, "y" * 5_000_000),
    ],
    ids=["one word", "as much as is compared", "two lines", "spaces", "turned around", "too long"],
)
def test_hostile_texts_take_no_longer(left: str, right: str) -> None:
    began = time.process_time()
    found = mark(left, right)
    assert time.process_time() - began < 5.0, "half a second on an idle machine"
    assert "".join(piece.text for piece in found.left) == left
