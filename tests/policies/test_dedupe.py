"""Duplicates: worked examples, the estimate against exact Jaccard similarity, and its independence from the process."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.conversation import Attachment, Conversation, ToolCall, Turn
from policies.dedupe import Deduper, Duplicate, MemoryIndex, seen_of
from policies.similarity import Banding, Fingerprint, Sketching, alike, banding, digest, similarity
from proxy.loop.dataset.minhash import minhash

WORDS = [f"word{n}" for n in range(2000)]
WIDE = Banding(rows=8, bands=16)


def deduper(threshold: float = 0.85) -> Deduper:
    return Deduper(threshold, MemoryIndex(), minhash)


def watcher(threshold: float = 0.85) -> Callable[[str], Duplicate | None]:
    """Says of questions, all with the same answer, whether they were seen."""
    one = deduper(threshold)
    return lambda question: one.seen(question, "an answer that everybody gets")


def fingerprint(question: str, answer: str, layout: Banding = WIDE) -> Fingerprint:
    return Sketching(minhash, layout).fingerprint(question, answer, b"", digest(question, answer, b""))


def signature(answer: str) -> bytes:
    """The answer's part of a signature."""
    return fingerprint("", answer).signature[130:]


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
    [(0.99, 16, 4), (0.85, 3, 10), (0.7, 2, 17), (0.5, 1, 17), (0.1, 1, 128), (1.0, 16, 1)],
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


@pytest.mark.parametrize("length", [9, 11, 12, 13, 14, 15, 16, 20])
def test_a_short_template_with_an_item_at_its_end_is_judged_by_the_exact_similarity(length: int) -> None:
    """Hundreds of neighbours just below the threshold, and just above it: not one of them by luck."""
    stem = numbered(0, length - 1)
    seen = deduper().seen
    found = [seen(f"{stem} {WORDS[1000 + item]}", "ok") for item in range(300)]
    near = jaccard(f"{stem} one", f"{stem} other") >= 0.85
    wrong = sum(each is not (Duplicate.NEAR if near else None) for each in found[1:])
    assert wrong <= 6, "two shingles in one bucket: once in 128, and hardly ever in all that it is compared with"


@given(start=st.integers(0, 400), length=st.integers(3, 30), shift=st.integers(0, 12))
def test_of_short_texts_the_similarity_is_nearly_always_exact(start: int, length: int, shift: int) -> None:
    one, other = numbered(start, length), numbered(start + shift, length)
    assert similarity(signature(one), signature(other)) == pytest.approx(jaccard(one, other), abs=0.07)


@pytest.mark.parametrize("changed", [3, 5, 8])
def test_a_short_text_of_many_characters_that_are_words_is_told_as_exactly(changed: int) -> None:
    """Two hundred words in the room of forty: so many differ that some share a bucket."""
    errors = []
    for n in range(40):
        coin = random.Random(n)
        one = [chr(coin.randrange(0x4E00, 0x9FFF)) for _ in range(190)]
        other = [*one]
        for at in coin.sample(range(0, 190, 4), changed):
            other[at] = chr(coin.randrange(0x4E00, 0x9FFF))
        exact = jaccard(" ".join(one), " ".join(other))
        errors.append(similarity(signature("".join(one)), signature("".join(other))) - exact)
    assert abs(sum(errors) / len(errors)) < 0.006, "no bias"
    assert max(map(abs, errors)) < 0.05


def test_a_shingle_counts_once_however_often_it_is_said() -> None:
    often = " ".join(["again and again"] * 5)
    assert similarity(signature(often), signature("again and again and once more")) < 0.7
    assert similarity(signature(often), signature(f"{often} {often[:15]}")) == 1.0


@given(text=st.text())
def test_a_text_is_its_own_duplicate_and_fits_a_database(text: str) -> None:
    item = fingerprint(text, text)
    assert alike(item.signature, item.signature, 1.0)
    assert len(item.signature) == 388
    assert all(0 <= key < 2**63 for key in (item.digest, *item.bands))


def test_fingerprints_do_not_depend_on_the_process() -> None:
    made = "Sketching(minhash, Banding(n, 4)).fingerprint('the quick brown fox', 'jumps', b'', 5)"
    imports = "from policies.similarity import *; from proxy.loop.dataset.minhash import minhash"
    code = f"{imports}; print(*[{made} for n in (1, 3, 4, 16)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    here = [
        Sketching(minhash, Banding(n, 4)).fingerprint("the quick brown fox", "jumps", b"", 5) for n in (1, 3, 4, 16)
    ]
    assert outputs == {f"{' '.join(map(str, here))}\n"}


# What belongs to a sample besides its question and its answer


def sample(*turns: Turn, answer: Turn | None = None, **change: Any) -> Conversation:
    return Conversation(turns=turns, answer=answer or Turn(role="assistant", content="positive"), **change)


def repeats(*samples: Conversation) -> list[Duplicate | None]:
    one = deduper()
    parts = map(seen_of, samples)
    return [one.seen(each.question, each.answer, each.context) for each in parts]


def user(content: Any) -> Turn:
    return Turn(role="user", content=content)


ASKS = user("Is this document positive or negative?")
TEMPLATE = " ".join(["Read the following document with care, then say in one word what it is about."] * 20)


def called(arguments: str, name: str = "read", id: str = "call-1") -> Turn:
    return Turn(role="assistant", calls=(ToolCall(name=name, arguments=arguments, id=id),))


def result(content: Any, id: str = "call-1") -> Turn:
    return Turn(role="tool", content=content, call_id=id)


def picture(data: str) -> Attachment:
    return Attachment(medium="image", part={"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})


def document(n: int) -> str:
    """Ten words, of which only some are another document's as well."""
    coin = random.Random(n)
    return " ".join(coin.choices(NAMES, k=10))


NAMES = [f"{one}{other}" for one in ("fox", "whale", "car", "tree", "king") for other in ("", *"abcdefghijklmnopqrst")]
PLACES: dict[str, Callable[[str], Conversation]] = {
    "an earlier turn": lambda text: sample(user(text), Turn(role="assistant", content="I have read it."), ASKS),
    "the system prompt": lambda text: sample(Turn(role="system", content=text), ASKS),
    "a tool's result": lambda text: sample(ASKS, called("{}"), result(text)),
    "a call's arguments": lambda text: sample(ASKS, called(json.dumps({"text": text})), result("done")),
    "an attachment": lambda text: sample(user((ASKS.text, picture(b64encode(text.encode()).decode())))),
    "an attachment of a tool's result": lambda text: sample(ASKS, called("{}"), result((picture(text),))),
    "the tools": lambda text: sample(
        ASKS, tools=({"type": "function", "function": {"name": "f", "description": text}},)
    ),
    "a template of 300 words": lambda text: sample(user(f"{TEMPLATE}\n\nDocument: {text}\n\n{TEMPLATE}")),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_thousand_documents_with_one_question_and_one_answer_are_all_kept(place: str) -> None:
    assert repeats(*(PLACES[place](document(n)) for n in range(1000))) == [None] * 1000


@pytest.mark.parametrize("place", PLACES)
def test_the_same_conversation_is_kept_once(place: str) -> None:
    again = [PLACES[place](document(1)) for _ in range(3)]
    assert repeats(*again) == [None, Duplicate.EXACT, Duplicate.EXACT]


def test_ids_of_calls_are_no_part_of_a_conversation() -> None:
    first, again = (
        sample(ASKS, called('{"n": 1}', id=run), result("text", id=run), answer=called('{"to":"me"}', id=f"{run}-2"))
        for run in ("call-abc", "call-xyz")
    )
    assert repeats(first, again) == [None, Duplicate.EXACT]


def test_which_call_a_result_answers_is_part_of_it() -> None:
    def run(first: str, second: str) -> Conversation:
        both = Turn(role="assistant", calls=(called("{}", id="a").calls[0], called("{}", id="b").calls[0]))
        return sample(ASKS, both, result("one", first), result("two", second))

    assert repeats(run("a", "b"), run("b", "a")) == [None, None]


def test_how_a_calls_json_is_written_is_no_part_of_it() -> None:
    first, again = (sample(ASKS, answer=called(text)) for text in ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}'))
    assert repeats(first, again) == [None, Duplicate.EXACT]
    assert repeats(first, sample(ASKS, answer=called('{"a": 1, "b": [3]}'))) == [None, None]
    torn = sample(ASKS, answer=called('{"a": 1, "b'))
    assert repeats(torn, torn, sample(ASKS, answer=called("x"))) == [None, Duplicate.EXACT, None]


def test_case_and_space_of_the_context_do_not_count_but_the_case_of_data_does() -> None:
    system = [Turn(role="system", content=text) for text in ("You are  helpful.", "you are helpful.")]
    assert repeats(*(sample(each, ASKS) for each in system)) == [None, Duplicate.EXACT]
    assert repeats(*(sample(user(("What?", picture(data)))) for data in ("AAaa", "aaAA"))) == [None, None]


def test_what_was_thought_is_no_part_of_it() -> None:
    answers = [Turn(role="assistant", content="positive", reasoning=text) for text in (None, "Let me see.")]
    assert repeats(*(sample(ASKS, answer=each) for each in answers)) == [None, Duplicate.EXACT]


def test_without_a_user_turn_all_is_context() -> None:
    system = [Turn(role="system", content=text) for text in ("Say hello.", "Say goodbye.")]
    assert repeats(*map(sample, system)) == [None, None]
    assert repeats(sample(), sample(), sample(answer=called("{}"))) == [None, Duplicate.EXACT, None]
    only_from_the_provider = sample(user((Attachment(medium="file"),)))
    assert repeats(only_from_the_provider, only_from_the_provider) == [None, Duplicate.EXACT]


def test_other_words_for_the_same_question_in_the_same_context_are_near() -> None:
    system = Turn(role="system", content="You are the help desk of a shop.")
    question = "Where is my order, which I have paid for a week ago and which has still not come to me"
    asked = [question, f"{question}?", f"please, {question}", f"{question} at all"]
    assert repeats(*(sample(system, user(text)) for text in asked)) == [None, *[Duplicate.NEAR] * 3]


def test_a_number_is_no_wording() -> None:
    question = f"{TEMPLATE} What is {{}} times 24?"
    assert repeats(*(sample(user(question.format(n))) for n in range(200))) == [None] * 200
    assert watcher()(f"{TEMPLATE} word17") is None


def test_two_words_of_a_long_question_are_wording_and_an_item_of_eight_is_not() -> None:
    words = numbered(0, 400).split()
    changed, other = [*words], [*words]
    changed[100], changed[300] = "other", "words"
    other[200:208] = [f"item{n}" for n in range(8)]
    seen = watcher()
    assert [seen(" ".join(each)) for each in (words, changed, other)] == [None, Duplicate.NEAR, None]


def test_of_a_very_long_text_the_middle_must_be_the_same() -> None:
    words = [f"word{n}" for n in range(5000)]
    middle, end = [*words], [*words]
    middle[2500], end[4900] = "other", "other"
    seen = watcher()
    assert [seen(" ".join(each)) for each in (words, middle, end)] == [None, None, Duplicate.NEAR]


@pytest.mark.parametrize("length", [8, 10, 12, 20, 60])
def test_short_texts_are_found_as_surely_as_long_ones(length: int) -> None:
    """A word is put before the question and one after the answer."""
    missed = 0
    for n in range(200):
        question, answer = numbered(n, length), numbered(1000 + n, length)
        seen = deduper().seen
        assert seen(question, answer) is None
        missed += seen(f"well {question}", f"{answer} indeed") is not Duplicate.NEAR
    assert missed <= 12
