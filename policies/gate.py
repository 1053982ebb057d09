"""Whether a challenger may meet users at all, told from answers that nobody waits for.

**Conversations.** X in [-1, 1] says of one user how much better the challenger's answer is than the champion's: a
difference of scores, or +1, 0, -1 of a judge who compared them in both orders. Two bets run side by side, each a
product of fair factors (a test martingale, Ville 1939), averaged over a few stakes:

    worse    E = mean over stakes of  Π (1 - β X)          against "the mean is 0 or more"
    close    E = mean over stakes of  Π (1 + β (X + b))    against "the mean is -b or less"

Under what it is against, E exceeds 1/α with a chance of α at most: whatever the distribution, at any number of answers,
however often one looks. `worse` ≥ 1/0.05 rejects, `close` ≥ 1/0.01 passes, whichever comes first. So an equal
challenger is rejected in 5 % at most, and one that is worse by b passes in 1 % at most. Answers are looked at in the
order in which the prompts were drawn, never in that in which they came: fast answers are not the same as good ones.

**Golden file.** Cases with a known expectation, asked once of each model and looked at once: an exact sign test on the
cases in which the two differ (McNemar), for the whole file and for every tag.

A pass promotes nobody. Missing data neither passes nor rejects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import comb, exp, log, log1p
from typing import Any, Final, Literal

__all__ = [
    "BETS",
    "PAIRS",
    "SCORES",
    "Bet",
    "CheckPart",
    "CheckReport",
    "GateLook",
    "GateVerdict",
    "GoldenCase",
    "GoldenGroup",
    "Rule",
    "Side",
    "e_value",
    "gate",
    "golden",
    "log_bet",
    "pair_outcome",
    "sign_test",
]  # fmt: skip

BETS: Final = (0.1, 0.2, 0.4, 0.8)
"""Stakes: small ones find small differences, large ones find large differences soon."""
_MOST_STAKED: Final = 0.95
"""No single answer may cost more than this share of what a bet has won."""
_MOST_LOG: Final = 700.0
Side = Literal["champion", "challenger", "tie"]


class GateVerdict(StrEnum):
    """What a check says of a challenger."""

    PASS = "pass"
    """Shown to be no worse than the limit allows. It may meet users, and has yet to convince them."""
    REJECT = "reject"
    """Proven worse: no user sees it."""
    UNDECIDED = "undecided"
    """Neither was shown with the prompts that there were. It may go to the canary, or wait, as the settings say."""
    HOLD = "hold"
    """Something that the check needs is missing: no verdict until it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a bet on conversations ends."""

    broken: float
    """b: a challenger whose mean X is lower than minus this is broken."""
    n_max: int
    """Users after whom it ends undecided."""
    n_min: int = 20
    """Users before whom it says nothing."""
    alpha_reject: float = 0.05
    alpha_pass: float = 0.01


SCORES: Final = Rule(broken=0.07, n_max=400)
"""For differences of scores."""
PAIRS: Final = Rule(broken=0.10, n_max=800)
"""For preferences of a judge, which say less each."""


class Bet:
    """One of the two bets, answer by answer."""

    __slots__ = ("_logs", "_shift", "_stakes")

    def __init__(self, *, shift: float, sign: Literal[-1, 1]) -> None:
        """`sign` -1 bets against "the mean is -shift or more", +1 against "the mean is -shift or less"."""
        most = _MOST_STAKED / (1.0 + shift if sign < 0 else 1.0 - shift)
        self._stakes = tuple(sign * min(stake, most) for stake in BETS)
        self._shift = shift
        self._logs = [0.0] * len(BETS)

    def add(self, x: float) -> None:
        """One more answer. Raises ValueError where `x` is not in [-1, 1]."""
        if not -1.0 <= x <= 1.0:
            raise ValueError(f"an outcome is between -1 and 1, not {x}")
        logs, moved = self._logs, x + self._shift
        for at, stake in enumerate(self._stakes):
            logs[at] += log1p(stake * moved)

    @property
    def log_e(self) -> float:
        """ln E; 0 before the first answer."""
        top = max(self._logs)
        return top + log(sum(exp(one - top) for one in self._logs) / len(self._logs))


def e_value(log_e: float) -> float:
    """E from its logarithm, as a number that JSON has."""
    return exp(min(log_e, _MOST_LOG))


def log_bet(xs: Iterable[float], shift: float, sign: Literal[-1, 1]) -> float:
    """ln E of one bet after all of `xs`, each in [-1, 1]; see `Bet`."""
    bet = Bet(shift=shift, sign=sign)
    for x in xs:
        bet.add(x)
    return bet.log_e


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLook:
    """Where the bets on conversations stand."""

    verdict: GateVerdict | None
    """`pass`, `reject`, `undecided`; None: more answers are needed."""
    used: int
    """Answers up to the verdict, else all of them."""
    mean: float | None
    """Mean X of the answers used; None without any."""
    log_worse: float
    """ln E against "equal or better"."""
    log_close: float
    """ln E against "worse by b or more"."""


def gate(xs: Iterable[float], rule: Rule) -> GateLook:
    """Look at one number in [-1, 1] per user, in the order drawn; the first look that decides wins, for good."""
    worse, close = Bet(shift=0.0, sign=-1), Bet(shift=rule.broken, sign=1)
    rejects, passes = -log(rule.alpha_reject), -log(rule.alpha_pass)
    used, total, verdict = 0, 0.0, None
    for x in xs:
        if used == rule.n_max:
            break
        worse.add(x)
        close.add(x)
        used, total = used + 1, total + x
        if used >= rule.n_min:
            if worse.log_e >= rejects:
                verdict = GateVerdict.REJECT
                break
            if close.log_e >= passes:
                verdict = GateVerdict.PASS
                break
    if verdict is None and used >= rule.n_max:
        verdict = GateVerdict.UNDECIDED
    mean = total / used if used else None
    return GateLook(verdict=verdict, used=used, mean=mean, log_worse=worse.log_e, log_close=close.log_e)


def pair_outcome(first: Side, second: Side) -> int:
    """X of what a judge preferred with the champion's answer first (`first`), then with the challenger's first.

    +1: the challenger's is better in both orders, -1: the champion's is. A judge who prefers a place, or cannot tell,
    says 0.
    """
    if first != second:
        return 0
    return {"challenger": 1, "champion": -1}.get(first, 0)


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """What became of one line of the golden file."""

    champion: bool
    """The champion's answer was as expected."""
    challenger: bool
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenGroup:
    """The golden file, or what has one tag in it."""

    tag: str
    """Empty for the whole file."""
    cases: int
    lost: int
    """Cases that the champion passed and the challenger did not."""
    won: int
    p: float
    """Chance of losing that many of the differing cases, were the two models equal."""
    level: float
    """`p` up to which it counts as proven."""
    beyond_margin: bool
    """More was lost than won by at least the margin."""

    @property
    def worse(self) -> bool:
        """Whether the challenger is proven worse here."""
        return self.beyond_margin and self.p <= self.level


def golden(
    cases: Sequence[GoldenCase], *, alpha: float = 0.05, margin: float = 0.02, margin_tag: float = 0.05
) -> tuple[GoldenGroup, ...]:
    """The whole file first, then its tags by name. Half of `alpha` is the whole file's, the tags share the other half;
    without tags all of it is the file's. `margin`, `margin_tag`: shares of the cases, 0 to 1."""
    by_tag: defaultdict[str, list[GoldenCase]] = defaultdict(list)  # in one pass: there may be as many tags as cases
    for case in cases:
        for tag in set(case.tags):
            by_tag[tag].append(case)
    whole = _group("", cases, level=alpha / 2 if by_tag else alpha, margin=margin)
    level = alpha / 2 / max(len(by_tag), 1)
    return (whole, *(_group(tag, by_tag[tag], level=level, margin=margin_tag) for tag in sorted(by_tag)))


def _group(tag: str, cases: Sequence[GoldenCase], *, level: float, margin: float) -> GoldenGroup:
    lost = sum(case.champion and not case.challenger for case in cases)
    won = sum(case.challenger and not case.champion for case in cases)
    beyond = bool(cases) and lost > won and lost - won >= margin * len(cases) - 1e-9
    return GoldenGroup(
        tag=tag, cases=len(cases), lost=lost, won=won, p=sign_test(lost, won), level=level, beyond_margin=beyond
    )


def sign_test(lost: int, won: int) -> float:
    """Chance that a fair coin loses at least `lost` of `lost + won` throws; 1 without a throw (exact, one-sided)."""
    throws = lost + won
    ways = total = comb(throws, lost)
    for heads in range(lost, throws):
        ways = ways * (throws - heads) // (heads + 1)  # each from the one before: thousands take milliseconds
        total += ways
    return total / (1 << throws)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPart:
    """What one part of a check has found."""

    name: str
    """`golden`, or what conversations were compared by: `visible` (defects that anybody sees), `scores` or `pairs` of a
    judge."""
    verdict: GateVerdict | None
    """None while it runs."""
    compared: int
    """Users, or cases of the golden file, that were compared."""
    most: int
    """As many as it will look at."""
    mean: float | None = None
    """Mean X, of conversations."""
    e_worse: float | None = None
    """E against "equal or better", of conversations."""
    e_close: float | None = None
    """E against "worse by `broken` or more", of conversations."""
    broken: float | None = None
    groups: tuple[GoldenGroup, ...] = ()
    """Of the golden file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check has found so far: what is kept with it, and what a person reads. It quotes no user and no model."""

    verdict: GateVerdict | None = None
    """None while it runs."""
    reasons: tuple[str, ...] = ()
    """Sentences: why this verdict, or what it waits for."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """`prompts` drawn, `compared`, `failed` (no answer of the challenger), `same` (no difference), `judged`, `tokens`,
    `golden` cases, and `warmed`: requests of the warm-up that were answered."""
    differences: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """How many answers show what (`policies.comparison.Defect` and more), by `champion` and `challenger`."""
    figures: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """`characters` and `latency_s`: medians, by `champion` and `challenger`."""
    parts: tuple[CheckPart, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    """Some items on which the challenger lost: `item` (its key among the check's comparisons), `why` (words)."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        content = asdict(self)
        content["parts"] = [
            {**asdict(part), "groups": [{**asdict(group), "worse": group.worse} for group in part.groups]}
            for part in self.parts
        ]
        return {**content, "reasons": list(self.reasons), "examples": [dict(one) for one in self.examples]}
