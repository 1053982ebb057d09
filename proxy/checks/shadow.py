"""The shadow as the loop polls it: copies of live requests, answered by a challenger without users, are compared.

Whoever asks has the work done in the background: answers that came in since are put beside the champion's, and what
all of them say is noted with the check. All of it follows from what is in the store, so whoever leads next goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.comparison import StockAnswers
from policies.gate import CheckReport
from policies.rewrite import Rewrite
from policies.rows import Check, Model
from policies.shadowing import Missing, conclude_shadow, shadow_look, shadow_part
from policies.snapshot import CheckView
from proxy.checks.facts import SIDES, outcome_of, why_lost, with_stock
from proxy.checks.pairing import Pairing, is_paired
from proxy.checks.ports import AskedModel
from proxy.checks.tally import differences_of, figures_of
from proxy.clock import Clock
from proxy.config import Config
from proxy.errors import TemporaryError
from proxy.store.control.comparisons import ComparedRow
from proxy.store.ingest.answers import MOST_ANSWERS
from proxy.store.store import Store
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["ShadowChecks", "report_of", "why_interrupted"]

_POLL_S: Final = 0.2
_LAG_S: Final = 60.0
"""From the end of a copy until its answer is in the store, as a rule: the spool, redaction, and a busy controller."""
_WITHOUT_RECORD_S: Final = 3600.0
"""An answer whose request has no record by then has lost it: its user was deleted, or it was refused."""
_EXAMPLES: Final = 20


class ShadowChecks:
    """Compares what copies have brought. One for all checks of the leading controller."""

    def __init__(self, store: Store, config: Config, clock: Clock) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._timeout_s = config.gateway.shadow_timeout_seconds
        self._running: dict[int, asyncio.Task[CheckReport]] = {}
        self._found: dict[int, CheckReport] = {}

    async def poll(self, check: Check, challenger: Model, champion: Model) -> CheckView:
        """What has been found so far. It has no end of its own: only `reject` and `hold` are verdicts."""
        task = self._running.get(check.id)
        if task is None:
            task = spawn(self._look(check, challenger, champion), name=f"compare copies of check {check.id}")
            self._running[check.id] = task
        await asyncio.wait((task,), timeout=_POLL_S)
        if task.done():
            self._running.pop(check.id, None)
            if task.cancelled() or task.exception() is not None:
                return CheckView(id=check.id, reasons=(f"copies are compared again soon: {why_interrupted(task)}",))
            self._found = {check.id: task.result()}
        report = self._found.get(check.id)
        if report is None:
            return CheckView(id=check.id, reasons=("the first copies of live requests are being compared",))
        return CheckView(id=check.id, verdict=report.verdict, reasons=report.reasons)

    async def cancel(self, check_id: int) -> None:
        """Compare no more of it; what was found stays."""
        if (task := self._running.pop(check_id, None)) is not None:
            await cancel_and_wait((task,))

    async def close(self) -> None:
        """Stop all."""
        await cancel_and_wait(self._running.values())

    async def _look(self, check: Check, challenger: Model, champion: Model) -> CheckReport:
        """Pair what is not paired, and see what all of it says."""
        pairing = Pairing(
            _endpoint(champion),
            champion.id,
            _endpoint(challenger),
            self._config.scoring,
            model_name=self._config.checks.model_name,
            timeout_s=self._timeout_s,
        )
        rows = await self._store.comparisons.of_check(check.id)
        halves = [row for row in rows if not is_paired(row)]
        for half in halves:
            await self._pair(pairing, half)
        if halves:
            rows = await self._store.comparisons.of_check(check.id)
        # what was sent later may still be on its way here: quick answers first, and those are not like the others
        until_us = int((self._clock.now() - self._timeout_s - _LAG_S) * 1e6)
        report, settled = await asyncio.to_thread(report_of, rows, until_us=until_us)
        for item, outcome, facts in settled:
            await self._store.comparisons.settle(check.id, item, outcome, facts)
        await self._store.checks.report(check.id, report.document())
        return report

    async def _pair(self, pairing: Pairing, row: ComparedRow) -> None:
        """Complete one comparison, or forget it; it waits where its record is not here yet."""
        store = self._store
        view = await store.records.get(row.item)
        if view is None:
            if self._clock.now() - row.created_us / 1e6 > _WITHOUT_RECORD_S:
                await store.comparisons.drop(row.check_id, row.item)
            return
        half = await store.comparisons.get(row.check_id, row.item)
        if half is None:
            return
        whole = await asyncio.to_thread(pairing.pair, half, view)
        if whole is None:
            await store.comparisons.drop(row.check_id, row.item)
        else:
            await store.comparisons.pair(whole)


def why_interrupted(task: asyncio.Task[Any]) -> str:
    """Why a task of a check has ended without what it was for, in words that go into status and journal."""
    error = None if task.cancelled() else task.exception()
    if error is None:
        return "it was interrupted"
    if isinstance(error, TemporaryError):
        return str(error) or type(error).__name__
    return f"an error that should not be ({type(error).__name__}, see the log)"  # its own words may quote users


def _endpoint(model: Model) -> AskedModel:
    """As the model's answers are read; nothing is asked here."""
    rewrite = Rewrite.of(model.rewrite) if model.rewrite is not None else None
    return AskedModel(name=model.name, url=model.url or "", model=model.model, rewrite=rewrite)


Settled = tuple[str, float, dict[str, Any]]


def report_of(rows: Sequence[ComparedRow], *, until_us: int) -> tuple[CheckReport, list[Settled]]:
    """What the comparisons of a shadow say, in the order in which copies were sent, up to those sent at `until_us`; and
    outcomes that are not written down yet, each with its facts."""
    ready = [row for row in rows if row.created_us <= until_us and is_paired(row)]
    missing = Counter(Missing(row.facts["missing"]) for row in ready if "missing" in row.facts)
    stock, units, outcomes = StockAnswers(), set[str](), list[float]()
    known: list[Mapping[str, Any]] = []
    settled: list[Settled] = []
    lost: list[tuple[float, dict[str, Any]]] = []
    for row in ready:
        if "missing" in row.facts:
            continue
        facts = with_stock(row.facts, stock.feed(*(row.facts[side]["said"] for side in SIDES)))
        outcome = outcome_of(facts, judged=False)
        assert outcome is not None  # nobody is asked for it
        known.append(facts)
        if row.outcome is None:
            settled.append((row.item, outcome, facts))
        if (unit := _unit(row)) not in units:
            units.add(unit)
            outcomes.append(outcome)
        if outcome < 0:
            lost.append((outcome, {"item": row.item, "why": why_lost(facts)}))
    look = shadow_look(outcomes)
    verdict, reasons = conclude_shadow(look, copies=len(ready), missing=missing)
    return CheckReport(
        verdict=verdict,
        reasons=reasons,
        counts={
            "prompts": len(ready),
            "compared": len(outcomes),
            "failed": sum(bool(facts["challenger"]["failed"]) for facts in known),
            "same": sum(not facts["differences"] for facts in known),
        },
        differences=differences_of(known),
        figures=figures_of(known),
        parts=(shadow_part(look, most=MOST_ANSWERS),),
        examples=tuple(example for _, example in sorted(lost, key=lambda one: one[0])[:_EXAMPLES]),
    ), settled


def _unit(row: ComparedRow) -> str:
    """Whose answers count once: the user's, else the conversation's."""
    if row.user_hash is not None:
        return f"u{row.user_hash}"
    conversation = row.facts.get("conversation")
    return row.item if conversation is None else f"c{conversation}"
