"""The few facts of a record that sums and statistics need, and what its votes amount to. Pure.

`count_arrival`, `count_votes`, `count_score`, `count_judgement`, `count_signals` and `count_conversation` add what a
record, its votes, its score, what a judge says of it, what its user shows, or a vote on the conversation are to its
user's totals, in the order of `policies.estimates.METRICS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from policies.ballots import BallotTrust, can_be_judged
from policies.behaviour import Behaviour
from policies.estimates import DEFAULT_ICC, METRICS, Metric
from policies.kinds import TASK
from policies.records import Arm, Outcome
from policies.scoring import FORMAT_CHECK
from policies.signals import Signal
from proxy.store.tables.keys import id_time_us, random_user_key
from proxy.store.tables.values import FLAGS, NewRecord, RecordFlag
from proxy.wire.extract.shapes import KINDS

__all__ = [
    "RecordFacts",
    "Recount",
    "Rejudged",
    "Scored",
    "Signalled",
    "Terms",
    "Totals",
    "VoteSummary",
    "count_arrival",
    "count_conversation",
    "count_judgement",
    "count_score",
    "count_signals",
    "count_votes",
    "flags_of",
    "was_answered",
]  # fmt: skip

(_QUALITY, _POSITIVE, _LATENCY, _ERROR, _SLOW, _VOTED, _REFUSED, _GIVEN, _JUDGE, _JUDGE_VOTED, _LENGTH, _DECLINED,
 _MALFORMED, _TRUNCATED, _LANGUAGE, _CONVERSATION, _REGENERATED, _REPHRASED, _RETRIED, _ABANDONED,
 _COPIED) = (METRICS.index(metric) for metric in Metric)  # fmt: skip
_BEHAVIOURS: Final = (
    (_DECLINED, Behaviour.DECLINED.value),
    (_MALFORMED, Behaviour.MALFORMED.value),
    (_TRUNCATED, Behaviour.TRUNCATED.value),
)
_SIGNALS: Final = (
    (_REGENERATED, Signal.JUDGEABLE.value, Signal.REGENERATED.value),
    (_REPHRASED, Signal.JUDGEABLE.value, Signal.REPHRASED.value),
    (_RETRIED, Signal.TELLS_RETRIES.value, Signal.RETRIED.value),
    (_ABANDONED, Signal.AWAITED.value, Signal.ABANDONED.value),
)
"""Metric, the bit of what could be shown, and that of what was."""
_ANSWER: Final = Signal.ANSWER.value
_LANGUAGES, _OTHER_LANGUAGE = Behaviour.LANGUAGES.value, Behaviour.OTHER_LANGUAGE.value
_FALLBACK, _SAMPLE, _CLAIMED = int(RecordFlag.FALLBACK), int(RecordFlag.SAMPLE), int(RecordFlag.CLAIMED)
_TOKEN, _THUMB = int(BallotTrust.TOKEN), int(BallotTrust.THUMB)
_SCORE, _CORRECTION = int(BallotTrust.SCORE), int(BallotTrust.CORRECTION)
_NO_SAMPLE: Final = int(RecordFlag.NO_TRAIN | RecordFlag.UNREAD)
_TRAINABLE: Final = frozenset(kind.name for kind in KINDS.values() if kind.trainable)

Totals = tuple[list[float], list[float]]
"""Counts and sums by metric, changed in place."""
Scored = tuple[float | None, str | None]
"""The score that counts, and who gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an experiment's epoch froze."""

    l95_s: float | None = None
    """Answers slower than this are slow; None: nothing is."""
    icc: float = DEFAULT_ICC
    cuped: bool = False
    """Whether the units' past is counted beside what they do."""

    @classmethod
    def of(cls, frozen: Mapping[str, Any]) -> Self:
        """From the experiment's `frozen` column."""
        icc, terms = frozen.get("icc"), frozen.get("terms") or {}
        return cls(
            l95_s=frozen.get("l95_s"),
            icc=DEFAULT_ICC if icc is None else float(icc),
            cuped=terms.get("ab_test_config.cuped") == "true",
        )


class RecordFacts(NamedTuple):
    """A record, as far as counting goes. A tuple because every record passes by here, and it is made at once."""

    id: str
    user_hash: int | None
    arm: Arm
    model_id: int
    experiment_id: int | None
    epoch: int
    status: int
    outcome: Outcome
    duration_us: int
    quality: float | None
    quality_source: str | None
    flags: RecordFlag
    kind: str
    cluster: int | None
    judged: float | None = None
    answer_chars: int | None = None
    behaviour: int | None = None
    tags: Mapping[str, str] | None = None
    signals: int | None = None

    @property
    def score(self) -> Scored:
        """The score that counts."""
        return self.quality, self.quality_source

    @property
    def task(self) -> bool:
        """A UI asked for itself. It was a request like any other, but no statistic that decides anything has it."""
        return self.kind == TASK.name

    @property
    def at_s(self) -> int:
        """When it arrived, Unix seconds."""
        return id_time_us(self.id) // 1_000_000

    @property
    def user_key(self) -> int:
        """The user, or the record itself where no sticky key was given."""
        return self.user_hash if self.user_hash is not None else random_user_key(self.id)

    @property
    def claimed(self) -> bool:
        """Nobody vouched for the user that it names."""
        return self.flags.value & _CLAIMED != 0

    @property
    def unit(self) -> int:
        """Whose evidence it is: the user's, or where a name is only claimed the cluster's (0: one for all unknown)."""
        return (self.cluster or 0) if self.claimed else self.user_key

    @property
    def answered(self) -> bool:
        """The client got a whole answer that was no error: only its duration says how fast the model is.

        A duration of 0 was not measured: the library's callers need not give one.
        """
        return was_answered(self.outcome, self.status, self.duration_us)

    @property
    def votable(self) -> bool:
        """The client got an answer, whole or begun, that somebody can judge."""
        return can_be_judged(self.outcome, self.status)

    @property
    def sample(self) -> bool:
        """It may become training data."""
        return self.flags.value & _SAMPLE != 0

    @property
    def fallback(self) -> bool:
        """The champion answered for another arm."""
        return self.flags.value & _FALLBACK != 0

    @property
    def failed(self) -> bool:
        """The assigned arm's fault: it failed, or the champion had to answer for it."""
        return self.outcome.failed or self.fallback

    @property
    def refused(self) -> bool:
        """The assigned arm declined the request; the champion did not have to answer for it."""
        return self.outcome.refused and not self.fallback

    @classmethod
    def of(cls, record: NewRecord) -> Self:
        """From a record about to be inserted."""
        return cls(
            id=record.id,
            user_hash=record.user_hash,
            arm=record.arm,
            model_id=record.model_id,
            experiment_id=record.experiment_id,
            epoch=record.epoch,
            status=record.status,
            outcome=record.outcome.with_status(record.status),
            duration_us=record.duration_us,
            quality=record.quality,
            quality_source=record.quality_source,
            flags=flags_of(record),
            kind=record.kind,
            cluster=record.cluster,
            answer_chars=record.answer_chars,
            behaviour=record.behaviour,
            tags=record.tags,
            signals=record.signals,
        )


def was_answered(outcome: Outcome, status: int, duration_us: int) -> bool:
    """See `RecordFacts.answered`."""
    return outcome is Outcome.OK and 200 <= status < 400 and duration_us > 0


def flags_of(record: NewRecord) -> RecordFlag:
    """The record's flags, with SAMPLE set where it may become training data."""
    body = record.body
    flags: int = record.flags._value_  # `value` takes a function's call
    usable = (
        body is not None
        and body.query is not None
        and body.response_text is not None
        and record.outcome is Outcome.OK
        and 200 <= record.status < 300
        and record.kind in _TRAINABLE
        and not flags & _NO_SAMPLE
    )
    return FLAGS[flags | _SAMPLE if usable else flags & ~_SAMPLE]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteSummary:
    """The effective votes on one record: of each voter the latest, unless retracted since, as far as they count."""

    positive: int = 0
    negative: int = 0
    neutral: int = 0
    score: float | None = None
    """Mean of the scores people gave."""
    correction: str | None = None
    """The latest one."""
    fids: frozenset[str] = frozenset()
    """Votes that count."""
    copied: bool = False
    """Somebody says that the answer was copied. That cannot be taken back."""

    @property
    def count(self) -> int:
        """Voters whose thumb counts."""
        return self.positive + self.negative + self.neutral

    @property
    def mean(self) -> float | None:
        """In [-1, 1]; None without any."""
        return (self.positive - self.negative) / self.count if self.count else None

    @classmethod
    def on(cls, record: RecordFacts, votes: Iterable[Any]) -> Self:
        """From rows of `feedback` for this record: on what was no answer, no vote counts."""
        return cls.of(votes) if record.votable else cls()

    @classmethod
    def of(cls, votes: Iterable[Any]) -> Self:
        """From rows of `feedback` for one record, in any order: the id of a vote says when it was given.

        The voter is the source that a holder of the token names; all others, whatever they call themselves, are one.
        What is said of a whole conversation is said of none of its records.
        """
        votes = _standing(vote for vote in votes if not vote.whole)
        thumbs: dict[str | None, tuple[str, int]] = {}
        given: dict[str | None, tuple[str, float]] = {}
        corrections: dict[str | None, tuple[str, str]] = {}
        for vote in votes:
            trust = int(vote.trust)
            voter = vote.source if trust & _TOKEN else None
            if vote.retracted:
                for said in (thumbs, given, corrections):
                    said.pop(voter, None)
            if vote.feedback is not None and trust & _THUMB:
                thumbs[voter] = (vote.fid, vote.feedback)
            if vote.quality_score is not None and trust & _SCORE:
                given[voter] = (vote.fid, vote.quality_score)
            if vote.correction is not None and trust & _CORRECTION:
                corrections[voter] = (vote.fid, vote.correction)
        values = [value for _, value in thumbs.values()]
        counted = {fid for said in (thumbs, given, corrections) for fid, *_ in said.values()}
        return cls(
            positive=values.count(1),
            negative=values.count(-1),
            neutral=values.count(0),
            score=sum(score for _, score in given.values()) / len(given) if given else None,
            correction=max(corrections.values())[1] if corrections else None,
            fids=frozenset(counted),
            copied=any(vote.copied for vote in votes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Amended:
    """A vote after a change that its system sent: as a row of `feedback`, as far as counting goes."""

    fid: str
    source: str
    trust: int
    feedback: int | None
    quality_score: float | None
    correction: str | None
    copied: bool
    retracted: bool = False

    @classmethod
    def by(cls, before: Any, change: Any) -> Self:
        """`before`, changed. A thumb stays one, and a score: who sends a new value may not say which it is."""
        thumb, score = change.feedback, change.quality_score
        return cls(
            fid=change.fid,
            source=before.source,
            trust=int(before.trust) & int(change.trust),
            feedback=before.feedback if before.feedback is None or thumb is None else thumb,
            quality_score=before.quality_score if before.quality_score is None or score is None else score,
            correction=before.correction if change.correction is None else change.correction,
            copied=before.copied or change.copied,
        )


def _standing(votes: Iterable[Any]) -> list[Any]:
    """Rows of `feedback` for one record, oldest first: of each vote that another system knows by an id of its own only
    what stands after all that was sent under it, nothing where it was taken back."""
    said: list[Any] = []
    known: dict[int, Any] = {}
    for vote in sorted(votes, key=lambda row: str(row.fid)):
        if vote.external is None:
            said.append(vote)
            continue
        before = known.pop(vote.external, None)
        if not vote.amends and not vote.retracted:
            known[vote.external] = vote
        elif vote.amends and before is not None:
            known[vote.external] = _Amended.by(before, vote)
    return sorted([*said, *known.values()], key=lambda row: str(row.fid)) if known else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """A record's votes and score before and after votes were joined to it."""

    record: RecordFacts
    before: VoteSummary
    after: VoteSummary
    scores: Mapping[str, float]
    quality: float | None
    quality_source: str | None


class Rejudged(NamedTuple):
    """A record with the votes on it, and the judge's score that it has from now on."""

    record: RecordFacts
    votes: VoteSummary
    score: float | None


class Signalled(NamedTuple):
    """A record of which later requests reveal something else than was known, and the signals that it has from now
    on."""

    record: RecordFacts
    signals: int


def count_arrival(totals: Totals, record: RecordFacts, terms: Terms) -> None:
    """A new record, not yet voted on."""
    n, s = totals
    n[_ERROR] += 1
    s[_ERROR] += record.failed
    n[_REFUSED] += 1
    s[_REFUSED] += record.refused
    if record.answered:
        seconds = record.duration_us / 1e6
        n[_LATENCY] += 1
        s[_LATENCY] += seconds
        n[_SLOW] += 1
        s[_SLOW] += terms.l95_s is not None and seconds > terms.l95_s
    n[_VOTED] += record.votable
    if record.answer_chars is not None:
        n[_LENGTH] += 1
        s[_LENGTH] += math.log1p(record.answer_chars)
    if record.behaviour is not None:
        _count_behaviour(totals, record.behaviour)
    if record.signals is not None:
        _count_looked_at(totals, record.signals)
    if record.quality is not None:
        count_score(totals, (None, None), record.score)
    if record.judged is not None:
        count_judgement(totals, VoteSummary(), None, record.judged)


def _count_behaviour(totals: Totals, bits: int) -> None:
    n, s = totals
    for metric, bit in _BEHAVIOURS:
        n[metric] += 1
        s[metric] += bits & bit != 0
    if bits & _LANGUAGES:
        n[_LANGUAGE] += 1
        s[_LANGUAGE] += bits & _OTHER_LANGUAGE != 0


def _count_looked_at(totals: Totals, bits: int) -> None:
    n, s = totals
    for metric, could_be, was in _SIGNALS:
        if bits & could_be:
            n[metric] += 1
            s[metric] += bits & was != 0
    n[_COPIED] += bits & _ANSWER != 0


def count_signals(totals: Totals, before: int, after: int) -> None:
    """What was shown of a record changed; what could be does not."""
    _, s = totals
    for metric, could_be, was in _SIGNALS:
        if after & could_be:
            s[metric] += (after & was != 0) - (before & was != 0)


def count_conversation(totals: Totals, value: int, by: int) -> None:
    """The vote on a conversation, 1 or -1, counts from now on (`by` is 1), or no more (-1)."""
    n, s = totals
    n[_CONVERSATION] += by
    s[_CONVERSATION] += by * (value > 0)


def count_score(totals: Totals, before: Scored, after: Scored) -> None:
    """The score that counts changed, or who gave it."""
    n, s = totals
    more = (after[0] is not None) - (before[0] is not None)
    n[_QUALITY] += more
    s[_QUALITY] += (after[0] or 0.0) - (before[0] or 0.0)
    n[_GIVEN] += more
    s[_GIVEN] += _is_given(after) - _is_given(before)


def _is_given(scored: Scored) -> bool:
    """Whether the application or people gave it: the format check sees defects, and nothing of what is right."""
    return scored[0] is not None and scored[1] != FORMAT_CHECK


def count_votes(totals: Totals, before: VoteSummary, after: VoteSummary, record: RecordFacts) -> None:
    """The effective votes on the record changed. Neutral is neither positive nor negative."""
    n, s = totals
    judged = record.judged
    more = after.positive + after.negative - before.positive - before.negative
    n[_POSITIVE] += more
    s[_POSITIVE] += after.positive - before.positive
    s[_VOTED] += (after.count > 0) - (before.count > 0)
    if judged is not None:
        n[_JUDGE_VOTED] += more
        s[_JUDGE_VOTED] += more * judged
    if record.signals is not None and record.signals & _ANSWER:
        s[_COPIED] += after.copied - before.copied


def count_judgement(totals: Totals, votes: VoteSummary, before: float | None, after: float | None) -> None:
    """The judge's score of a record changed. On what is voted on it counts once a vote, as the votes do, so that both
    speak of the same answers with the same weights."""
    n, s = totals
    more, gained = (after is not None) - (before is not None), (after or 0.0) - (before or 0.0)
    cast = votes.positive + votes.negative
    n[_JUDGE] += more
    s[_JUDGE] += gained
    n[_JUDGE_VOTED] += more * cast
    s[_JUDGE_VOTED] += gained * cast
