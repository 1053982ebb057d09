"""What a check has found, item by item, and what follows from it: pure, so that whoever reads the ledger again gets the
same.

Conversations are looked at in the order in which they were drawn, up to the first whose outcome is not known yet: which
answers came first tells nothing of how good they are, but may of how long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final, Literal

from policies.comparison import StockAnswers
from policies.conclusion import conclude, conversations_part, golden_part
from policies.draw import Drawn
from policies.gate import PAIRS, SCORES, CheckPart, CheckReport, GateLook, GateVerdict, GoldenCase, Rule, gate, golden
from proxy.checks.facts import SIDES, outcome_of, tokens_of, why_lost, with_stock
from proxy.checks.golden import GoldenFile
from proxy.config.gate import ChecksConfig

__all__ = ["By", "CheckTally", "differences_of", "figures_of", "most_asked"]

By = Literal["visible", "scores", "pairs"]
_EXAMPLES: Final = 20
Facts = dict[str, Any]


def most_asked(config: ChecksConfig, by: By) -> int:
    """Conversations at most: a preference says less than a difference of scores, so there are twice as many."""
    return 2 * config.replays if by == "pairs" else config.replays


def _rule_of(config: ChecksConfig, by: By, *, shared: bool) -> Rule:
    """When conversations decide. `shared`: a golden file may reject, too, so each has half of the chance to err."""
    base = PAIRS if by == "pairs" else SCORES
    broken = config.broken_pairs if by == "pairs" else config.broken_scores
    alpha = base.alpha_reject / 2 if shared else base.alpha_reject
    return replace(base, broken=broken, n_max=max(most_asked(config, by), 1), alpha_reject=alpha)


@dataclass(slots=True)
class CheckTally:
    """The items of one check."""

    config: ChecksConfig
    by: By
    cases: GoldenFile | None
    wants_conversations: bool
    drawn: tuple[Drawn, ...] = ()
    facts: dict[str, Facts] = field(default_factory=dict)
    """By item: what is known of it."""
    gone: set[str] = field(default_factory=set)
    """Items that can be asked no more: their records were removed."""
    holds: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warmed: int = 0
    ended: bool = False
    fresh: list[str] = field(default_factory=list)
    """Items whose outcome is known, and not written down yet."""
    _at: int = 0
    _outcomes: list[float] = field(default_factory=list)
    _stock: StockAnswers = field(default_factory=StockAnswers)
    _settled: dict[str, float] = field(default_factory=dict)
    _look: GateLook | None = None

    @property
    def rule(self) -> Rule:
        """When conversations decide."""
        return _rule_of(self.config, self.by, shared=self.cases is not None)

    @property
    def at(self) -> int:
        """How many of those drawn are looked at; what lies far ahead of it need not be asked yet."""
        return self._at

    @property
    def tokens(self) -> int:
        """What it has cost."""
        return sum(tokens_of(facts) for facts in self.facts.values())

    def advance(self) -> GateLook:
        """Look at all conversations whose turn it is; what came of each is in `fresh`, too."""
        judged = self.by != "visible"
        before = self._at
        while self._at < len(self.drawn):
            item = self.drawn[self._at].record_id
            if item not in self.gone:
                facts = self.facts.get(item)
                if facts is None or (judged and outcome_of(facts, judged=True) is None):
                    break
                facts = with_stock(facts, self._stock.feed(*(facts[side]["said"] for side in SIDES)))
                outcome = outcome_of(facts, judged=judged)
                assert outcome is not None
                self.facts[item] = facts
                self._outcomes.append(outcome)
                self._settled[item] = outcome
                self.fresh.append(item)
            self._at += 1
        if self._look is None or (self._look.verdict is None and self._at > before):
            self._look = gate(self._outcomes, self.rule)
        return self._look

    def outcome(self, item: str) -> float | None:
        """X of an item, where it is known."""
        return self._settled.get(item)

    def place(self, item: str) -> float:
        """Of a conversation in the order drawn."""
        return next(one.place for one in self.drawn if one.record_id == item)

    def is_known(self, item: str) -> bool:
        """Whether nothing of an item is to be asked any more."""
        facts = self.facts.get(item)
        if facts is None or "golden" in facts:
            return _golden_known(facts)
        return self.by == "visible" or outcome_of(facts, judged=True) is not None

    @property
    def golden_done(self) -> bool:
        """Whether every case of the golden file is known."""
        return self.cases is None or all(_golden_known(self.facts.get(line.item)) for line in self.cases.lines)

    def verdict(self) -> GateVerdict | None:
        """What there is to say by now."""
        return self._conclusion(self._golden(), self._conversations())[0]

    def report(self) -> CheckReport:
        """Everything, as it is kept."""
        golden_file, conversations = self._golden(), self._conversations()
        verdict, reasons = self._conclusion(golden_file, conversations)
        golden_items = () if self.cases is None else tuple(line.item for line in self.cases.lines)
        known = {item: facts for item, facts in self.facts.items() if item not in golden_items}
        return CheckReport(
            verdict=verdict,
            reasons=reasons,
            counts=self._counts(known),
            differences=differences_of(self.facts.values()),
            figures=figures_of(known.values()),
            parts=tuple(part for part in (golden_file, conversations) if part is not None),
            examples=tuple(self._examples()),
        )

    def _conclusion(
        self, golden_file: CheckPart | None, conversations: CheckPart | None
    ) -> tuple[GateVerdict | None, tuple[str, ...]]:
        return conclude(
            golden=golden_file, conversations=conversations, holds=self.holds, notes=self.notes, ended=self.ended
        )

    def _golden(self) -> CheckPart | None:
        if self.cases is None:
            return None
        done = [(line, self.facts[line.item]) for line in self.cases.lines if _golden_known(self.facts.get(line.item))]
        cases = [
            GoldenCase(not facts["golden"]["champion"], not facts["golden"]["challenger"], line.tags)
            for line, facts in done
        ]
        groups = golden(
            cases,
            alpha=SCORES.alpha_reject / 2 if self.wants_conversations else SCORES.alpha_reject,
            margin=self.config.golden_margin,
            margin_tag=self.config.golden_tag_margin,
        )
        return golden_part(groups, done=len(done), cases=len(self.cases.lines))

    def _conversations(self) -> CheckPart | None:
        if not self.wants_conversations:
            return None
        look = self.advance()
        available = len(self.drawn) - len(self.gone)
        return conversations_part(self.by, look, self.rule, available=available, ended=self.ended)

    def _counts(self, known: Mapping[str, Facts]) -> dict[str, int]:
        same = sum(not facts["differences"] for facts in known.values())
        return {
            "prompts": len(self.drawn),
            "compared": len(self._outcomes),
            "failed": sum(bool(facts["challenger"]["failed"]) for facts in self.facts.values()),
            "same": same,
            "judged": sum("judge" in facts for facts in self.facts.values()),
            "golden": 0 if self.cases is None else len(self.cases.lines),
            "tokens": self.tokens,
            "warmed": self.warmed,
        }

    def _examples(self) -> list[dict[str, Any]]:
        """Cases lost first, then the conversations that were lost by most."""
        found: list[tuple[float, dict[str, Any]]] = []
        for line in () if self.cases is None else self.cases.lines:
            facts = self.facts.get(line.item)
            if facts is not None and _golden_known(facts):
                why = facts["golden"]
                if why["challenger"] and not why["champion"]:
                    found.append((-2.0, {"item": line.item, "name": line.name, "why": "; ".join(why["challenger"])}))
        for item, outcome in self._settled.items():
            if outcome < 0:
                facts = self.facts[item]
                found.append((outcome, {"item": item, "why": why_lost(facts) or "a judge prefers the other"}))
        found.sort(key=lambda one: one[0])
        return [example for _, example in found[:_EXAMPLES]]


def _golden_known(facts: Mapping[str, Any] | None) -> bool:
    return facts is not None and "golden" in facts and not facts["golden"].get("pending")


def differences_of(known: Any) -> dict[str, dict[str, int]]:
    """How often an answer of each side has which defect; what tells two apart is counted for the challenger."""
    counts: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    for facts in known:
        for side in SIDES:
            counts[side].update(facts[side]["defects"])
        counts["challenger"].update(facts["differences"])
    return {side: dict(sorted(count.items())) for side, count in counts.items()}


def figures_of(known: Any) -> dict[str, dict[str, float | None]]:
    """Medians of answers that are some, by side."""
    figures: dict[str, dict[str, float | None]] = {}
    known = list(known)
    for name in ("characters", "latency_s"):
        of_side: dict[str, Sequence[float]] = {
            side: [facts[side][name] for facts in known if facts[side][name] is not None and not facts[side]["failed"]]
            for side in SIDES
        }
        figures[name] = {side: float(median(values)) if values else None for side, values in of_side.items()}
    return figures
