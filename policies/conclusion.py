"""What a check says in the end, from what its parts have found: the verdict, and the sentences that give it reasons.

Worse in any part rejects, whatever else is missing. What is missing holds. A pass needs the conversations, where any
were to be asked: a golden file alone rejects what it proves to be worse, passes what has lost no more than the margin,
and leaves the rest undecided, as an absence of proof is none of equality.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import log
from typing import Final

from policies.gate import SCORES, Bet, CheckPart, GateLook, GateVerdict, GoldenGroup, Rule, e_value
from policies.wording import counted, many, score

__all__ = ["conclude", "conversations_part", "golden_part", "on_average"]

_MOST_TAGS: Final = 3
_MOST_NEEDED: Final = 10_000
_BY: Final = {
    "visible": "by visible defects it is",
    "scores": "a judge's scores of it are",
    "pairs": "by a judge's preferences it is",
}


def golden_part(groups: Sequence[GoldenGroup], *, done: int, cases: int) -> CheckPart:
    """The golden file, of which `done` cases of `cases` were compared; its verdict waits for all of them."""
    verdict = None
    if done == cases:
        whole = groups[0]
        worse = any(group.worse for group in groups)
        verdict = GateVerdict.UNDECIDED if whole.beyond_margin else GateVerdict.PASS
        verdict = GateVerdict.REJECT if worse else verdict
    return CheckPart(name="golden", verdict=verdict, compared=done, most=cases, groups=tuple(groups))


def conversations_part(name: str, look: GateLook, rule: Rule, *, available: int, ended: bool) -> CheckPart:
    """The conversations: `available` can be asked; `ended`: no more of them will be."""
    verdict = look.verdict
    if verdict is None and (ended or look.used >= available):
        verdict = GateVerdict.UNDECIDED
    return CheckPart(
        name=name,
        verdict=verdict,
        compared=look.used,
        most=min(available, rule.n_max),
        mean=look.mean,
        e_worse=e_value(look.log_worse),
        e_close=e_value(look.log_close),
        broken=rule.broken,
    )


def conclude(
    *,
    golden: CheckPart | None,
    conversations: CheckPart | None,
    holds: Sequence[str],
    notes: Sequence[str],
    ended: bool,
) -> tuple[GateVerdict | None, tuple[str, ...]]:
    """Verdict and reasons, the deciding one first; None while nothing decides and more is to come.

    `holds`: what is missing for a verdict; `notes`: what else a reader should know; `ended`: nothing more is coming.
    """
    parts = [part for part in (golden, conversations) if part is not None]
    said = [sentence for part in sorted(parts, key=_weight) for sentence in _sentences(part)]
    verdicts = [part.verdict for part in parts]
    if GateVerdict.REJECT in verdicts:
        return GateVerdict.REJECT, (*said, *notes)
    if holds:
        return (GateVerdict.HOLD if ended else None), (*holds, *said, *notes)
    if not parts:
        return GateVerdict.UNDECIDED, (*notes, *(() if notes else ("nothing was compared",)))
    if None in verdicts:
        return (GateVerdict.HOLD if ended else None), (*said, *notes)
    deciding = verdicts[-1]
    if deciding is GateVerdict.PASS:
        return GateVerdict.PASS, (*said, *notes)
    return GateVerdict.UNDECIDED, (*said, *notes)


def _weight(part: CheckPart) -> int:
    """Rejections first, then what decides a pass."""
    return (part.verdict is not GateVerdict.REJECT) * 2 + (part.name == "golden")


def _sentences(part: CheckPart) -> list[str]:
    return _of_golden(part) if part.name == "golden" else _of_conversations(part)


def _of_golden(part: CheckPart) -> list[str]:
    if part.verdict is None:
        return [f"golden file: {many(part.compared)} of {many(part.most)} cases so far"]
    whole = part.groups[0]
    said = f"golden file: of {many(whole.cases)} cases the challenger lost {many(whole.lost)} and won {many(whole.won)}"
    match part.verdict:
        case GateVerdict.REJECT:
            bad = [f"{group.tag!r} ({group.lost} lost, {group.won} won)" for group in part.groups if group.worse]
            bad = [name for name in bad if not name.startswith("''")]
            where = f"; worse in {', '.join(bad[:_MOST_TAGS])}" if bad else ""
            more = f" and {len(bad) - _MOST_TAGS} more tags" if len(bad) > _MOST_TAGS else ""
            return [f"{said}: it is worse{where}{more}"]
        case GateVerdict.PASS:
            return [f"{said}: no worse than the margin allows"]
        case _:
            return [f"{said}: more than the margin, and not enough to prove it worse"]


def _of_conversations(part: CheckPart) -> list[str]:
    found = f"{_BY[part.name]} {on_average(part.mean)}"
    told = f"conversations of {counted(part.compared, 'user')}: {found}"
    match part.verdict:
        case None:
            return [f"conversations: {many(part.compared)} of at most {many(part.most)} users so far"]
        case GateVerdict.REJECT:
            return [f"{told}: it is worse"]
        case GateVerdict.PASS:
            return [f"{told}: it is not worse by {part.broken:g} or more"]
        case _:
            needed = _needed(part.broken)
            if not part.compared:
                return [f"no conversation was compared (about {many(needed)} are needed)"]
            if part.compared < needed:
                few = "conversation is" if part.compared == 1 else "conversations are"
                return [
                    f"{many(part.compared)} {few} too few to show anything (about {many(needed)} are needed): {found}"
                ]
            neither = f"it is worse, nor that it is not worse by {part.broken:g} or more"
            return [f"{told}: it was shown neither that {neither}"]


def on_average(mean: float | None) -> str:
    """How much more an answer of the challenger's is worth, in words."""
    if mean is None or abs(mean) < 0.0005:
        return "as good on average"
    return f"{score(abs(mean))} {'worse' if mean < 0 else 'better'} on average"


@cache
def _needed(broken: float) -> int:
    """Conversations until a challenger passes whose every answer is worth as much as the champion's, to the next ten;
    others need more."""
    bet, passes = Bet(shift=broken, sign=1), -log(SCORES.alpha_pass)
    for count in range(1, _MOST_NEEDED):
        bet.add(0.0)
        if bet.log_e >= passes:
            return -(-max(count, SCORES.n_min) // 10) * 10
    return _MOST_NEEDED
