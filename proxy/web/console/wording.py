"""Values as a person reads them: units beside numbers, UTC times, a dash where nothing is known."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

from policies import wording
from policies.guardrails import GUARDRAILS, GuardrailState
from policies.kinds import TASK
from policies.records import Outcome
from policies.scoring import scorer_label
from policies.vocabulary import VERDICTS, action_label, measure_label, trigger_label
from proxy.store.tables.values import RecordFlag, RecordView
from proxy.web.checks.documents import verdict_of_check
from proxy.wire.extract.shapes import KINDS

__all__ = ["FILTERS", "UNKNOWN", "UNNAMED", "bound_text", "change_text", "check_verdict", "no_sample_words",
           "share_text"]  # fmt: skip

UNKNOWN: Final = "–"
UNNAMED: Final = "before the loop’s first check"
"""Model 0: what the configured champion answered in an installation's first moments, before it had a row of its own."""

_BEFORE_UNIT: Final = re.compile(r"(?<=\d) (?=%)")
_METRICS: Final = {
    "positive": "thumbs up",
    "error": "errors",
    "refused": "refused requests",
    "slow": "slow answers",
    "voted": "voted on",
    "given": "scored by people or the application",
    "judge": "judge's score",
    "length": "typical length",
    "declined": "declined in words",
    "malformed": "malformed answers",
    "truncated": "truncated answers",
    "language": "in another language",
}
_OUTCOME_WORDS: Final = {
    Outcome.OK: "The client got a complete answer.",
    Outcome.CLIENT_DISCONNECT: "The client disconnected before the end of the answer.",
    Outcome.UPSTREAM_ERROR: "The model failed: it was unreachable, closed the connection, or answered with an error.",
    Outcome.TIMEOUT: "The model sent nothing for too long.",
    Outcome.TRUNCATED: "Ratchet was stopped and cut the answer off.",
    Outcome.INCOMPLETE: "The answer’s stream ended without its end marker: the rest is missing.",
    Outcome.REFUSED: "The model’s server declined the request.",
}


def _outcome(label: str) -> str:
    """`incomplete` → a sentence."""
    return _OUTCOME_WORDS[Outcome[label.upper()]]


def no_sample_words(view: RecordView) -> str | None:
    """Why a record may not become training data, None where it may; the first reason of those that bar it."""
    row, body = view.row, view.body
    if RecordFlag.SAMPLE in row.flags:
        return None
    if RecordFlag.NO_TRAIN in row.flags:
        return "the request opted out"
    if row.outcome is not Outcome.OK or not 200 <= row.status < 300:
        return "there is no complete answer"
    if RecordFlag.UNREAD in row.flags:
        return "a part of it could not be read"
    kind = KINDS.get(row.kind)
    if kind is TASK:
        return "a chat UI’s own request"
    if kind is not None and not kind.trainable:
        return f"“{kind.meaning}” has no text of a model"
    if body is None:
        return "its text has been deleted"
    return "no question and answer were found"


def share_text(value: float | None) -> str:
    """0.0512 → "5.1 %"."""
    return UNKNOWN if value is None else wording.percent(value)


def change_text(value: float | None) -> str:
    """−0.021 → "−2.1 %"."""
    return UNKNOWN if value is None else wording.signed_percent(value)


def bound_text(value: float | None) -> str:
    """A bound of a relative change: no value falls by more than all of it."""
    return change_text(None if value is None else max(-1.0, value))


def _points(value: float | None) -> str:
    return UNKNOWN if value is None else wording.points(value)


def _evidence(log_e: float | None) -> str:
    return UNKNOWN if log_e is None else wording.odds(log_e)


def _e_value(e: float) -> str:
    return wording.odds(math.log(e) if e > 0 else -math.inf)


def _score(value: float | None) -> str:
    return UNKNOWN if value is None else wording.score(value)


def _count(value: float | None) -> str:
    """1234567 → "1,234,567"."""
    return UNKNOWN if value is None else wording.many(value)


def _seconds(value: float | None) -> str:
    """A measured time in the unit that fits: "85.3 ms"."""
    return UNKNOWN if value is None else wording.took(value)


def _duration(value: float | None) -> str:
    """Hours, as roughly as one says it: "5 seconds", "12 minutes"."""
    return UNKNOWN if value is None else wording.duration(value)


def _until(earliest: float, latest: float | None) -> str:
    """Two durations in hours as a stretch of time from now: "in 5 to 7 hours"."""
    first = wording.duration(earliest)
    last = first if latest is None else wording.duration(latest)
    if last == first:
        return f"in {first} or later" if latest is None else f"in {first}"
    number, _, unit = first.partition(" ")
    return f"in {number if last.endswith(f' {unit}') else first} to {last}"


def _bytes(value: float | None) -> str:
    return UNKNOWN if value is None else wording.size(value)


def _when(at_s: float | None) -> str | Markup:
    """An instant in UTC; the page's script adds how long ago that is."""
    if at_s is None or not math.isfinite(at_s):
        return UNKNOWN
    moment = datetime.fromtimestamp(at_s, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def _vote(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return wording.signed(value)


def _words(value: str) -> str:
    """`near_duplicate` → "near duplicate"."""
    return str(value).replace("_", " ")


def _guardrail(name: str) -> str:
    """`latency` → "slow answers"."""
    return GUARDRAILS[name].words if name in GUARDRAILS else name


def _guardrail_change(value: float | None, name: str) -> str:
    """The change that a guardrail found: in points of a rate, else in parts of the champion's value."""
    if name not in GUARDRAILS or not GUARDRAILS[name].is_rate:
        return bound_text(value)
    return _points(None if value is None else min(1.0, max(-1.0, value)))


def _guardrail_state(result: Any) -> str:
    """`pass` alone is shown as a result: neither of a guardrail that nothing measures, nor of one with too few users,
    of which results that were kept tell by their words."""
    kept = result if isinstance(result, Mapping) else {"state": result.state, "estimate": result.estimate,
                                                       "reason": result.reason}  # fmt: skip
    if kept["state"] != GuardrailState.PASS:
        return str(kept["state"])
    if kept.get("estimate") is None:
        return "not_measured"
    return "no_proof" if kept["reason"].endswith("effective users") else "pass"


def _nothing_yet(assessment: Any) -> str | None:
    """What is to be said, alone, of a test in which an arm has had no request."""
    names = ("champion_requests", "challenger_requests")
    if isinstance(assessment, Mapping):
        return wording.nothing_yet(*(assessment[name] for name in names))
    return wording.nothing_yet(*(getattr(assessment, name) for name in names))


def _metric(name: str) -> str:
    """`positive` → "thumbs up"."""
    return _METRICS.get(name, name)


def _characters(mean: float) -> str:
    """A mean of ln(1 + characters) as a number of characters."""
    return f"{wording.many(math.expm1(mean))} characters"


def _ratio(difference: float | None) -> str:
    """A difference of logarithms as a change."""
    return change_text(None if difference is None else math.expm1(difference))


def _verdict(name: str) -> str:
    """`continue` → "Keep testing"."""
    return VERDICTS.get(name, name)


_CHECK_KINDS: Final = {"gate": "replayed questions", "shadow": "copies of live requests", "command": "ratchet check"}
_CHECK_VERDICTS: Final = {
    "pass": "Passed", "reject": "Rejected", "undecided": "Undecided", "hold": "Waiting", "lost": "Lost",
    "passed_over": "Ended before a verdict", "no_answer": "No answer", "cancelled": "Cancelled",
}  # fmt: skip


def _check_kind(kind: str) -> str:
    """`shadow` → "copies of live requests"."""
    return _CHECK_KINDS.get(kind, kind)


def check_verdict(name: str | None) -> str:
    """`reject` → "Rejected"; None while it runs."""
    return "Running" if name is None else _CHECK_VERDICTS.get(name, name)


def _outcome_of_two(value: float | None) -> str:
    """How much better the challenger's answer is: "+0.4"."""
    if value is None:
        return UNKNOWN
    return wording.signed(value)


def _part(value: float | None) -> str:
    """0.3 → "30 %"."""
    return UNKNOWN if value is None else wording.share(value)


def _unbroken(sentence: str) -> str:
    """A sentence in which no line ends between a number and its unit."""
    return _BEFORE_UNIT.sub("\u00a0", sentence)


def _slug(word: str) -> str:
    """`effective users` → "effective-users"."""
    return word.replace(" ", "-")


FILTERS: Final[dict[str, Any]] = {
    "share": share_text,
    "part": _part,
    "progress": wording.progress,
    "change": change_text,
    "bound": bound_text,
    "points": _points,
    "evidence": _evidence,
    "e_value": _e_value,
    "score": _score,
    "count": _count,
    "seconds": _seconds,
    "duration": _duration,
    "until": _until,
    "bytes": _bytes,
    "when": _when,
    "vote": _vote,
    "words": _words,
    "outcome": _outcome,
    "guardrail": _guardrail,
    "guardrail_change": _guardrail_change,
    "action_words": action_label,
    "trigger": trigger_label,
    "verdict": _verdict,
    "check_kind": _check_kind,
    "check_verdict": check_verdict,
    "verdict_of_check": verdict_of_check,
    "cost": wording.cost,
    "signed": wording.signed,
    "preference": _outcome_of_two,
    "scorer": scorer_label,
    "measure": measure_label,
    "metric": _metric,
    "characters": _characters,
    "ratio": _ratio,
    "slug": _slug,
    "unbroken": _unbroken,
    "guardrail_state": _guardrail_state,
    "nothing_yet": _nothing_yet,
    "no_proof": wording.no_proof,
}
