"""Selection: each reason to drop with the smallest sample that earns it, then the caps by hand and by property."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.caps import Caps
from policies.conversation import Attachment, Conversation, Lack, ToolCall, Turn
from policies.dedupe import Deduper, MemoryIndex
from policies.records import Author, Sample
from policies.selection import (
    DataGeneratorConfig,
    Drop,
    DropReason,
    Exclusion,
    Keep,
    SelectionState,
    in_holdout,
    rehearsal_count,
    select,
)
from proxy.loop.dataset.minhash import minhash

GOOD = Sample(record_id="r1", created_at=0.0, user=1, query="What is a SNES?", response="A console.", quality=0.9)
PLAIN = DataGeneratorConfig(holdout_share=0.0)
VOTED = replace(PLAIN, min_user_feedback=1)
DPO = replace(PLAIN, format_type="dpo")


def judged(sample: Sample, config: DataGeneratorConfig = PLAIN, *, deleted: frozenset[int] = frozenset()) -> str | None:
    """The reason for dropping, or None when kept."""
    verdict = select(sample, config, SelectionState(deleted_users=deleted))
    return verdict.reason.value if isinstance(verdict, Drop) else None


def test_a_good_sample_is_kept() -> None:
    assert select(GOOD, PLAIN, SelectionState()) == Keep(holdout=False)


@pytest.mark.parametrize(
    ("change", "config", "reason"),
    [
        ({"trainable": False}, PLAIN, "not_trainable"),
        ({"trainable": False, "correction": "A box."}, PLAIN, "not_trainable"),
        ({"query": " \n"}, PLAIN, "empty"),
        ({"response": ""}, PLAIN, "empty"),
        ({"correction": " "}, PLAIN, "empty"),
        ({"quality": None}, PLAIN, "unscored"),
        ({"quality": 0.69}, PLAIN, "low_quality"),
        ({"quality": 0.7}, PLAIN, None),
        ({"quality": None}, replace(PLAIN, min_quality_score=None), None),
        ({"feedback": -0.5}, PLAIN, "negative_feedback"),
        ({"feedback": 0.0}, PLAIN, None),
        ({"feedback": None}, VOTED, "no_feedback"),
        ({"feedback": 0.5}, VOTED, "low_feedback"),
        ({"feedback": -1.0}, VOTED, "negative_feedback"),
        ({"feedback": 1.0}, VOTED, None),
        ({"feedback": 1.0, "quality": 0.1}, VOTED, "low_quality"),
        ({"feedback": None}, DPO, "no_feedback"),
        ({"feedback": 0.0}, DPO, "no_feedback"),
        ({"feedback": -1.0, "quality": 0.1}, DPO, None),
        ({"feedback": 1.0, "quality": 0.1}, DPO, "low_quality"),
        ({"correction": "A box.", "quality": 0.0, "feedback": -1.0}, VOTED, None),
        ({"correction": "A box.", "response": ""}, PLAIN, None),
    ],
)
def test_each_reason(change: dict[str, object], config: DataGeneratorConfig, reason: str | None) -> None:
    assert judged(replace(GOOD, **change), config) == reason  # type: ignore[arg-type]


def test_a_deleted_user_never_trains_again() -> None:
    assert judged(GOOD, deleted=frozenset({1})) == "deleted_user"
    assert judged(replace(GOOD, user=None), deleted=frozenset({1})) is None


def test_duplicates_are_dropped_by_question_and_answer() -> None:
    state = SelectionState(deduper=Deduper(0.85, MemoryIndex(), minhash))
    assert isinstance(select(GOOD, PLAIN, state), Keep)
    assert select(replace(GOOD, user=2), PLAIN, state) == Drop(DropReason.EXACT_DUPLICATE)
    assert select(replace(GOOD, response="A console!"), PLAIN, state) == Drop(DropReason.NEAR_DUPLICATE)
    assert isinstance(select(replace(GOOD, response="A games machine made by Nintendo."), PLAIN, state), Keep)


def test_a_dropped_sample_does_not_make_a_later_one_a_duplicate() -> None:
    state = SelectionState(deduper=Deduper(0.85, MemoryIndex(), minhash))
    assert select(replace(GOOD, quality=0.1), PLAIN, state) == Drop(DropReason.LOW_QUALITY)
    assert isinstance(select(GOOD, PLAIN, state), Keep)


def test_the_correction_is_what_is_compared() -> None:
    state = SelectionState(deduper=Deduper(0.85, MemoryIndex(), minhash))
    assert isinstance(select(GOOD, PLAIN, state), Keep)
    assert isinstance(select(replace(GOOD, correction="A 16-bit console from 1990."), PLAIN, state), Keep)


def test_the_holdout_takes_whole_users() -> None:
    sides = {user: {in_holdout(replace(GOOD, user=user, record_id=r), 0.3) for r in "abc"} for user in range(1000)}
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {True} for side in sides.values()) == pytest.approx(300, abs=60)
    assert not in_holdout(GOOD, 0.0)
    assert in_holdout(GOOD, 1.0)


def test_without_a_user_the_record_decides() -> None:
    sides = {in_holdout(replace(GOOD, user=None, record_id=f"r{n}"), 0.5) for n in range(50)}
    assert sides == {True, False}


@given(user=st.integers(-(2**63), 2**63 - 1), small=st.floats(0, 1), large=st.floats(0, 1))
def test_a_larger_holdout_contains_the_smaller(user: int, small: float, large: float) -> None:
    sample = replace(GOOD, user=user)
    small, large = sorted((small, large))
    assert in_holdout(sample, large) >= in_holdout(sample, small)


def test_the_cap_per_user() -> None:
    caps = Caps(replace(PLAIN, max_samples_per_user=2))
    assert [caps.claim(user) for user in (1, 1, 2, 1, None, None, None)] == [
        None, None, None, DropReason.USER_CAP, None, None, None,
    ]  # fmt: skip
    assert Caps(replace(PLAIN, max_samples_per_user=None)).claim(1) is None


def admitted(config: DataGeneratorConfig, arms: list[Author]) -> list[DropReason | None]:
    caps = Caps(config)
    for arm in arms:
        caps.offer(arm)
    return [caps.admit(arm) for arm in arms]


def test_the_challengers_share_is_of_the_file_not_of_the_offers() -> None:
    """3 champion lines and a share of 1/4 allow one challenger line in a file of four: the newest."""
    config = replace(PLAIN, max_own_share=0.25)
    champion, challenger = Author.ELSEWHERE, Author.OWN
    assert admitted(config, [challenger, challenger, champion, champion, champion]) == [
        None, DropReason.OWN_SHARE, None, None, None,
    ]  # fmt: skip
    assert admitted(config, [challenger]) == [DropReason.OWN_SHARE]
    assert admitted(replace(config, max_own_share=1.0), [challenger]) == [None]


def test_the_newest_samples_are_the_ones_that_stay() -> None:
    config = replace(PLAIN, max_samples=2)
    assert admitted(config, [Author.ELSEWHERE] * 3) == [None, None, DropReason.MAX_SAMPLES]
    caps = Caps(config)
    caps.offer(Author.ELSEWHERE)
    caps.offer(Author.OWN)
    assert not caps.satisfied
    caps.offer(Author.ELSEWHERE)
    assert caps.satisfied
    assert not Caps(PLAIN).satisfied


@given(
    arms=st.lists(st.sampled_from(Author), max_size=60),
    own=st.floats(0.0, 1.0),
    corrections=st.floats(0.0, 1.0),
    limit=st.none() | st.integers(1, 40),
)
def test_no_limit_is_ever_exceeded_and_no_champion_line_is_wasted(
    arms: list[Author], own: float, corrections: float, limit: int | None
) -> None:
    config = replace(PLAIN, max_own_share=own, max_correction_share=corrections, max_samples=limit)
    kept = [arm for arm, reason in zip(arms, admitted(config, arms), strict=True) if reason is None]
    assert limit is None or len(kept) <= limit
    assert kept.count(Author.OWN) <= own * len(kept) + 1e-6
    assert kept.count(Author.PERSON) <= max(1, corrections * len(kept) + 1e-6)
    if limit is None:
        assert kept.count(Author.ELSEWHERE) == arms.count(Author.ELSEWHERE)
    p, o, e = (arms.count(arm) for arm in (Author.PERSON, Author.OWN, Author.ELSEWHERE))

    def fits(n: int) -> int:
        people = min(p, max(math.floor(corrections * n + 1e-9), corrections > 0))
        return min(len(arms) if limit is None else limit, e + people + min(o, math.floor(own * n + 1e-9)))

    assert len(kept) == max(n for n in range(len(arms) + 1) if fits(n) >= n), "and no larger file would be allowed"


def test_corrections_are_a_share_of_the_file_and_one_is_always_welcome() -> None:
    """8 lines of models and a share of a fifth allow two corrections in a file of ten: the newest."""
    config, person, model = PLAIN, Author.PERSON, Author.ELSEWHERE
    assert admitted(config, [person] * 4 + [model] * 8)[:4] == [None, None, *[DropReason.CORRECTION_SHARE] * 2]
    assert admitted(config, [person] * 2) == [None, DropReason.CORRECTION_SHARE]
    assert admitted(replace(config, max_correction_share=0.0), [person]) == [DropReason.CORRECTION_SHARE]
    assert admitted(replace(config, max_correction_share=1.0), [person] * 4) == [None] * 4


def test_both_shares_are_of_the_file_that_results() -> None:
    """3 lines from elsewhere are 0.3 of a file of ten, half of which is own and a fifth corrections."""
    arms = [Author.PERSON] * 9 + [Author.OWN] * 9 + [Author.ELSEWHERE] * 3
    kept = [arm for arm, reason in zip(arms, admitted(PLAIN, arms), strict=True) if reason is None]
    assert [kept.count(arm) for arm in (Author.PERSON, Author.OWN, Author.ELSEWHERE)] == [2, 5, 3]


def test_a_full_file_of_corrections_and_others_is_enough() -> None:
    caps = Caps(replace(PLAIN, max_samples=10))
    caps.offer(Author.PERSON, 9)
    caps.offer(Author.ELSEWHERE, 7)
    assert not caps.satisfied, "two corrections and seven others: one line is missing"
    caps.offer(Author.ELSEWHERE)
    assert caps.satisfied


def test_nobody_corrects_more_than_their_part() -> None:
    caps = Caps(replace(PLAIN, max_corrections_per_user=2))
    claims = [(1, None), (1, None), (1, None), (2, 7), (3, 7), (4, 7), (None, 7), (None, None), (5, None)]
    over = DropReason.CORRECTIONS_OF_ONE
    assert [caps.claim_correction(*who) for who in claims] == [None, None, over, None, None, over, over, None, None]
    assert Caps(replace(PLAIN, max_corrections_per_user=None)).claim_correction(1, 1) is None


@pytest.mark.parametrize(
    ("new", "available", "share", "count"),
    [(70, 1000, 0.3, 30), (70, 10, 0.3, 10), (70, 1000, 0.0, 0), (70, 1000, 1.0, 1000), (0, 50, 0.3, 0)],
)
def test_rehearsal_is_a_share_of_the_whole_file(new: int, available: int, share: float, count: int) -> None:
    assert rehearsal_count(new, available, share) == count


# What was said


def said(*turns: Turn, answer: Turn | None = None, lacks: Lack | None = None) -> Sample:
    answered = answer or Turn(role="assistant", content="A console.")
    return replace(GOOD, query="", response="", conversation=Conversation(turns=turns, answer=answered, lacks=lacks))


ASKED = Turn(role="user", content="What is a SNES?")
PICTURE = Turn(role="user", content=(Attachment(medium="image"),))
CALL = Turn(role="assistant", calls=(ToolCall(name="look_up", arguments="{}"),))


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (said(ASKED, answer=CALL), None),
        (said(PICTURE), None),
        (said(ASKED, CALL, Turn(role="tool", content="found")), None),
        (said(Turn(role="system", content="Help.")), None),
        (said(Turn(role="user", content=" ")), DropReason.EMPTY),
        (said(ASKED, answer=Turn(role="assistant", content=" \n", reasoning="Hm.")), DropReason.EMPTY),
        (replace(said(ASKED), correction=" "), DropReason.EMPTY),
        (said(ASKED, Turn(role="assistant", content="Last turn said nothing.")), DropReason.EMPTY),
        *((said(ASKED, lacks=lack), DropReason(lack.value)) for lack in Lack),
    ],
)
def test_an_answer_without_words_may_be_a_call_and_a_question_a_picture(
    sample: Sample, reason: DropReason | None
) -> None:
    verdict = select(sample, PLAIN, SelectionState())
    assert (verdict.reason if isinstance(verdict, Drop) else None) is reason


LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("system", "question", "excluded"),
    [
        ("### Task: a title", "hello", True),
        ("You help.", "### Task: a title", True),
        ("You help.", "What is a ### Task: ?", False),
        ("You help.", f"{LONG} Write a title.", True),
        (f"### Task: {LONG}", "hello", True),
        ("You help.", f"{LONG} ### Task: {LONG}", False),
    ],
)
def test_a_pattern_in_system_prompt_or_question_excludes(system: str, question: str, excluded: bool) -> None:
    """An answer, or an earlier question, may say what it likes. Of a long text both ends are searched."""
    sample = said(
        Turn(role="system", content=system),
        Turn(role="user", content="### Task: earlier"),
        Turn(role="assistant", content="### Task: done"),
        Turn(role="user", content=question),
        answer=Turn(role="assistant", content="### Task: done"),
    )
    state = SelectionState(excluded=Exclusion(re.compile(pattern).search for pattern in (r"^### Task:", r"a title\.$")))
    assert (select(sample, PLAIN, state) == Drop(DropReason.EXCLUDED)) is excluded


def test_the_old_name_of_a_setting_is_still_taken() -> None:
    assert DataGeneratorConfig(max_challenger_share=0.2) == replace(PLAIN, max_own_share=0.2, holdout_share=0.05)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="is now called max_own_share, and both are given"):
        DataGeneratorConfig(max_challenger_share=0.2, max_own_share=0.2)  # type: ignore[call-arg]
