"""Repetition: by example, and that the quick look at a text never says other than counting all of it does."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.repetition import _is_varied, repeats

SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
WORDS = st.sampled_from(["the", "cat", "sat", "a", "on", "Straße", "猫", "\x1b[0m", "\ud800", "—", "donaudampf" * 4])
LOOPS = st.builds(
    lambda first, again, times, last: first + again * times + last,
    st.lists(WORDS, max_size=60),
    st.lists(WORDS, min_size=1, max_size=12),
    st.integers(0, 60),
    st.lists(WORDS, max_size=60),
)
NUMBERED = st.builds(
    lambda seed, different, length: [str(seed.randrange(different)) for _ in range(length)],
    st.randoms(use_true_random=False), st.integers(1, 160), st.integers(0, 320),
)  # fmt: skip


def plainly(text: str) -> bool:
    """The definition: under two in five of the runs of four words are different, of those near the end. Characters
    count instead where words are longer than 15 on average, as nothing is spaced."""
    tail = text[-3600:]
    words = tail.split()[-240:]
    pieces = list(tail[-240:]) if len(tail) > 15 * len(words) else words
    runs = [tuple(pieces[at : at + 4]) for at in range(len(pieces) - 3)]
    return len(runs) >= 40 and len(set(runs)) < 0.4 * len(runs)


def test_it_is_the_end_that_repeats() -> None:
    prose = " ".join(map(str, range(300)))
    assert not repeats(prose)
    assert repeats(prose + " and so on" * 200)
    assert not repeats("and so on " * 200 + prose)


@given(LOOPS | NUMBERED, st.sampled_from([" ", " ", "\n", "  ", *SPACES, ""]))
@example(["word"] * 43, " ")
@example(["word"] * 42, " ")
@example([f"{number % 19}" for number in range(43)], " ")
def test_whatever_the_text_the_answer_is_the_definition_s(words: list[str], space: str) -> None:
    text = space.join(words)
    assert repeats(text) == plainly(text)
    assert not (_is_varied(text[-3600:]) and plainly(text))


@given(st.text(max_size=300) | st.text("ab \n\t\u00a0\u2003é", max_size=600))
def test_of_any_characters_too(text: str) -> None:
    assert repeats(text) == plainly(text)
    assert not (_is_varied(text) and plainly(text))


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_seen(space: str) -> None:
    """Words that nobody separates would seem to be few."""
    text = space.join(["to be or not to be"] * 40)
    assert repeats(text)
    assert not _is_varied(text)
    assert _is_varied(space.join(map(str, range(100))))


@pytest.mark.parametrize("length", [43, 44, 100, 239, 240, 241, 400])
def test_the_quick_look_draws_no_other_line(length: int) -> None:
    """Cycles of so many different words, each of one character: its marks tell them all apart."""
    letters = [chr(code) for code in range(0x21, 0x100) if chr(code).isprintable()]
    for different in range(1, 140):
        text = " ".join(letters[number % different] for number in range(length))
        assert repeats(text) == plainly(text)
        assert not (_is_varied(text) and plainly(text))
    assert _is_varied(text)


def test_many_different_words_do_not_make_up_for_a_long_beginning() -> None:
    """There are two ways to be wrong: what is still unread may be many small words, or none at all."""
    numbers = " ".join(map(str, range(60)))
    nearly_one = " ".join(format(number, "07b") for number in range(128))
    for text in (*("a " * times + numbers for times in range(100, 200)), "0" * 2600 + nearly_one):
        assert repeats(text) == plainly(text)
        assert not (_is_varied(text) and plainly(text))
    assert plainly(text)


def test_prose_is_told_without_counting_runs() -> None:
    assert _is_varied(__doc__ + plainly.__doc__)
