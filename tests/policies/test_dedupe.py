"""Duplicates: worked examples, the estimate against exact Jaccard similarity, and its independence from the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.dedupe import Banding, Deduper, Duplicate, MemoryIndex, banding, fingerprint, similarity

WORDS = [f"word{n}" for n in range(2000)]
WIDE = Banding(rows=8, bands=16)


def deduper(threshold: float = 0.85) -> Deduper:
    return Deduper(threshold, MemoryIndex())


def watcher(threshold: float = 0.85) -> Callable[[str], Duplicate | None]:
    """Says of questions, all with the same answer, whether they were seen."""
    one = deduper(threshold)
    return lambda question: one.seen(question, "an answer that everybody gets")


def signature(question: str) -> bytes:
    return fingerprint(question, "", WIDE).signature


def jaccard(one: str, other: str) -> float:
    """Exact, over three-word shingles."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return set(zip(words, words[1:], words[2:], strict=False))

    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def numbered(start: int, count: int) -> str:
    return " ".join(WORDS[start : start + count])


def test_same_text_up_to_case_and_space_is_an_exact_duplicate() -> None:
    seen = watcher()
    assert seen("What is a  SNES?\nA console.") is None
    assert seen("what is a snes?\n\n a CONSOLE.") is Duplicate.EXACT


def test_same_words_with_other_punctuation_are_a_near_duplicate() -> None:
    seen = watcher()
    assert seen("What is a SNES? It is a console.") is None
    assert seen('"What is a SNES" -- it is a console!'.replace("--", "")) is Duplicate.NEAR


def test_one_word_in_a_hundred_changed_is_a_near_duplicate() -> None:
    seen = watcher()
    assert seen(numbered(0, 100)) is None
    changed = numbered(0, 100).replace("word50", "other")
    assert jaccard(numbered(0, 100), changed) == pytest.approx(95 / 101)  # 3 of 98 shingles differ on either side
    assert seen(changed) is Duplicate.NEAR


def test_a_text_that_is_long_enough_to_fill_every_bin_is_compared_like_any_other() -> None:
    seen = watcher()
    assert seen(numbered(0, 1900)) is None
    assert seen(numbered(0, 1900).replace("word950", "other")) is Duplicate.NEAR
    assert seen(numbered(700, 1300)) is None


def test_half_the_words_changed_is_a_new_text() -> None:
    seen = watcher()
    assert seen(numbered(0, 100)) is None
    assert seen(numbered(50, 100)) is None


def test_signs_of_arithmetic_count_as_words() -> None:
    assert watcher()("2 + 2 = 4") is None
    assert similarity(signature("a b c d + e"), signature("a b c d * e")) < 0.85


def test_a_script_without_spaces_is_compared_by_character() -> None:
    sentence = "吾輩は猫である名前はまだ無いどこで生れたかとんと見当がつかぬ"
    assert watcher()(sentence) is None
    similar = similarity(signature(sentence), signature(sentence.replace("猫", "犬")))
    assert 0.6 < similar < 1.0


def test_different_questions_with_one_long_answer_are_all_kept() -> None:
    seen = deduper().seen
    answer = "You can follow your parcel under Orders > Track; the link is also in the shipping mail. " * 4
    assert seen("where is my order", answer) is None
    assert seen("the courier never showed up", answer) is None
    assert seen("Where is my order?", answer) is Duplicate.NEAR


def test_one_question_with_different_answers_is_kept_with_each() -> None:
    seen = deduper().seen
    assert seen(numbered(0, 40), "yes, by the back door") is None
    assert seen(numbered(0, 40), "no, never on a Sunday") is None
    assert seen(numbered(0, 40), "No, never on a Sunday!") is Duplicate.NEAR


@pytest.mark.parametrize("text", ["", "?!", "one", "one two", "\ud800 lone surrogate"])
def test_odd_and_short_texts_repeat_like_any_other(text: str) -> None:
    seen = watcher()
    assert seen(text) is None
    assert seen(text) is Duplicate.EXACT


def test_the_first_of_a_group_stays_and_the_dropped_ones_are_not_compared_against() -> None:
    """Similarity is no chain: c resembles b, which was dropped, but not a."""
    seen = watcher(0.8)
    assert seen(numbered(0, 200)) is None
    assert seen(numbered(5, 200)) is Duplicate.NEAR
    assert seen(numbered(10, 200)) is None


@pytest.mark.parametrize(
    ("threshold", "rows", "bands"),
    [(0.99, 16, 4), (0.85, 4, 15), (0.7, 2, 17), (0.5, 1, 17), (0.1, 1, 128), (1.0, 16, 1)],
)
def test_bands_are_as_wide_and_as_few_as_99_percent_recall_allows(threshold: float, rows: int, bands: int) -> None:
    assert banding(threshold) == (rows, bands)
    missed = 1 - threshold ** (2 * rows)
    assert missed**bands <= 0.01 or bands == 128
    assert bands == 1 or missed ** (bands - 1) > 0.01


def test_hardly_a_pair_that_is_alike_enough_is_missed() -> None:
    """A word of a hundred is another in the question, and one in the answer: J = 0.94 for both."""
    missed = 0
    for n in range(200):
        question, answer = numbered(n, 100), numbered(1000 + n, 100)
        seen = deduper(0.85).seen
        assert seen(question, answer) is None
        near = question.replace(WORDS[n + 50], "other"), answer.replace(WORDS[n + 1050], "other")
        missed += seen(*near) is not Duplicate.NEAR
    assert missed <= 2


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="near_duplicate_threshold"):
        deduper(threshold)


@given(start=st.integers(0, 400), length=st.integers(5, 400), shift=st.integers(0, 400))
def test_the_estimate_is_close_to_the_exact_similarity(start: int, length: int, shift: int) -> None:
    one, other = numbered(start, length), numbered(start + shift, length)
    estimate = similarity(signature(one), signature(other))
    assert estimate == pytest.approx(jaccard(one, other), abs=0.22)  # five standard errors at the worst, J = 0.5


@given(text=st.text())
def test_a_text_is_its_own_duplicate_and_fits_a_database(text: str) -> None:
    item = fingerprint(text, text, WIDE)
    assert similarity(item.signature, item.signature) == 1.0
    assert len(item.signature) == 384
    assert all(0 <= key < 2**63 for key in (item.digest, *item.bands))


def test_fingerprints_do_not_depend_on_the_process() -> None:
    code = "from policies.dedupe import *; print(*[fingerprint('the quick brown fox', 'jumps', Banding(n, 4)) for n in (1, 4, 16)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    here = [fingerprint("the quick brown fox", "jumps", Banding(n, 4)) for n in (1, 4, 16)]
    assert outputs == {f"{' '.join(map(str, here))}\n"}


def test_the_cache_of_words_forgets_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(numbered(0, 50), "", WIDE)
    monkeypatch.setattr("policies.dedupe._CACHED_WORDS", 3)
    assert fingerprint("words that no other test has brought into the cache yet", "", WIDE) != before
    assert fingerprint(numbered(0, 50), "", WIDE) == before
