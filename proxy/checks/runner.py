"""Runs one check: warm up, golden file, conversations; ends as soon as the answers tell.

Whoever is killed here, and goes on with the same ledger, asks again only what was in flight. Nothing that a model
answers is acted upon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from policies.gate import CheckReport
from policies.wording import counted
from proxy.checks.asking import Asker, Unreached
from proxy.checks.facts import outcome_of
from proxy.checks.items import CheckItems
from proxy.checks.plan import CheckPlan
from proxy.checks.pool import Away, CheckPool, Do
from proxy.checks.ports import CheckLedger
from proxy.checks.reading import Read
from proxy.checks.tally import CheckTally
from proxy.clock import Clock
from proxy.tasks import to_the_end

__all__ = ["Runner"]

_AHEAD: Final = 4
"""Times the concurrency that questions may be asked ahead of the first whose answer is still awaited."""
_REPORT_S: Final = 2.0
_WARMING: Final = "it is being warmed up with recorded requests"


class Runner:
    """One check, in one process."""

    def __init__(self, plan: CheckPlan, ledger: CheckLedger, clock: Clock) -> None:
        config = plan.config
        self._plan = plan
        self._ledger = ledger
        self._clock = clock
        self._asker = Asker(
            clock, timeout_s=config.answer_timeout_seconds, connections=config.concurrency, tls=plan.tls
        )
        self._pool = CheckPool(clock, size=config.concurrency, patience_s=plan.patience_s)
        by = plan.weigher.by if plan.weigher is not None else "visible"
        self.tally = CheckTally(
            config=config, by=by, cases=plan.cases, wants_conversations=plan.conversations is not None
        )
        self._items = CheckItems(plan, ledger, self._asker, self.tally)
        self._deadline_s = plan.deadline_s
        self._paused_since: float | None = None
        self._reported = -_REPORT_S
        self._warming = bool(plan.warm_up[plan.warmed :])
        self.silent = ""
        """Why it answers nothing at all, where that is so: it has answered none of the requests of its warm-up."""
        self.may_pass = False
        """Another deployment of one that is silent may answer."""

    def pause(self, paused: bool) -> None:
        """Whether nothing new is asked; the time limit waits meanwhile. What is in flight ends."""
        if paused == (self._paused_since is not None):
            return
        self._deadline_s = self.deadline_s
        self._paused_since = self._clock.now() if paused else None
        self._pool.pause(paused)

    @property
    def deadline_s(self) -> float:
        """When the time limit is over, with all pauses up to now, Unix seconds."""
        paused_s = 0.0 if self._paused_since is None else max(0.0, self._clock.now() - self._paused_since)
        return self._deadline_s + paused_s

    def report(self) -> CheckReport:
        """What it has found so far."""
        if self._warming:
            return CheckReport(reasons=(_WARMING,), counts={"warmed": self.tally.warmed})
        report = self.tally.report()
        if report.verdict is None and self._pool.waiting:
            return replace(report, reasons=(f"waiting: {self._pool.waiting}", *report.reasons))
        return report

    @property
    def progress(self) -> float:
        """Done so far (0 to 1), at most: it may end sooner."""
        cases = 0 if self._plan.cases is None else len(self._plan.cases.lines)
        most = cases + min(len(self.tally.drawn), self.tally.rule.n_max)
        return min(1.0, len(self.tally.facts) / most) if most else 0.0

    async def run(self) -> CheckReport:
        """Go through with it, or on with it. What the store raises (TemporaryError) ends this, and may be repeated."""
        plan, tally = self._plan, self.tally
        for row in await self._ledger.rows():
            tally.facts[row.item] = dict(row.facts)
        async with self._asker:
            if not await self._warm_up():
                return tally.report()
            if plan.conversations is not None:
                tally.drawn = tuple(await plan.conversations.draw())
                if len(tally.drawn) < tally.rule.n_min:
                    tally.notes.append(_few(len(tally.drawn), tally.rule.n_min))
            await self._golden_file()
            if tally.verdict() is None:
                await self._conversations()
        await self._settle_rest()
        tally.ended = True
        report = tally.report()
        await self._ledger.report(report)
        return report

    async def _golden_file(self) -> None:
        lines = () if self._plan.cases is None else self._plan.cases.lines
        missing = [line.item for line in lines if not self.tally.is_known(line.item)]
        if (away := await self._stage(missing, self._items.golden, over=self._is_spent)) is not None:
            self.tally.holds.insert(0, away.reason)

    async def _conversations(self) -> None:
        tally = self.tally
        items = [one.record_id for one in tally.drawn]
        missing = [item for item in items if not tally.is_known(item)]
        places = {item: place for place, item in enumerate(items)}

        def near(item: str) -> bool:
            return places[item] < tally.at + _AHEAD * self._plan.config.concurrency

        def over() -> bool:
            return tally.advance().verdict is not None or self._is_spent()

        away = await self._stage(missing, self._items.conversation, over=over, may_begin=near)
        if away is not None and away.for_good:  # clients bring keys of their own: it says nothing of the model
            tally.notes += [away.reason] if away.reason not in tally.holds else []
        elif away is not None and away.reason not in tally.holds:
            tally.holds.insert(0, away.reason)

    async def _stage(
        self, items: Sequence[str], do: Do, *, over: Callable[[], bool], may_begin: Callable[[str], bool] | None = None
    ) -> Away | None:
        async def one(item: str, last: bool) -> Away | None:
            away = await do(item, last)
            await self._write_down()
            return away

        away = await self._pool.work(items, one, over=over, may_begin=may_begin)
        if away is None and self._pool.waiting:  # there was no time left to wait for it
            away = Away(self._pool.waiting)
        self._pool.waiting = ""
        await self._write_down(force=True)
        return away

    def _is_spent(self) -> bool:
        """Whether there is no more time, or no more money, to find out more."""
        config = self._plan.config
        if self._paused_since is None and self._clock.now() >= self._deadline_s:
            return self._ends(f"the time limit is over ({config.time_limit_minutes:g} minutes)")
        if config.max_tokens and self.tally.tokens >= config.max_tokens:
            return self._ends(f"the {config.max_tokens:,} tokens that it may cost are spent (checks.max_tokens)")
        return False

    def _ends(self, why: str) -> bool:
        """With enough answers it is undecided, with fewer it holds."""
        tally = self.tally
        enough = not tally.wants_conversations or tally.advance().used >= min(tally.rule.n_min, len(tally.drawn))
        said = tally.notes if enough and tally.golden_done else tally.holds
        if why not in said:
            said.append(why)
        return True

    async def _warm_up(self) -> bool:
        """Have it load, compile and fill its caches before anything counts; False where it answers nothing at all."""
        silences: list[str] = []
        self.tally.warmed = self._plan.warmed
        for asked in self._plan.warm_up[self._plan.warmed :]:
            await self._pool.opened()
            answer = await self._asker.ask(self._plan.challenger, asked, model_name=False)
            if isinstance(answer, Unreached) and not answer.refused:
                silences.append("it cannot be reached" if answer.status is None else f"HTTP {answer.status}")
            elif isinstance(answer, Read) and answer.answer.failed is not None:
                silences.append(answer.answer.failed)
            else:
                self.tally.warmed += 1
                await self._write_down(force=True)
        self._warming = False
        if silences and not self.tally.warmed:
            self.may_pass = not any(said.startswith("HTTP 4") and said != "HTTP 429" for said in silences)
            last = silences[-1].partition(",")[0]  # what follows, the model says
            self.silent = f"it answered none of {len(silences)} recorded requests; the last: {last}"
        return not self.silent

    async def _write_down(self, *, force: bool = False) -> None:
        """What became of items whose turn it was, and now and then the whole."""
        tally = self.tally
        tally.advance()
        if tally.fresh:
            fresh, tally.fresh = tally.fresh, []
            await to_the_end(self._settle(fresh), name="outcomes of a check")  # nobody else would write them down
        now = self._clock.monotonic()
        if force or now - self._reported >= _REPORT_S:
            self._reported = now
            await self._ledger.report(replace(self.report(), verdict=None))

    async def _settle(self, items: Sequence[str]) -> None:
        for item in items:
            await self._ledger.settle(item, self.tally.outcome(item), self.tally.facts[item])

    async def _settle_rest(self) -> None:
        """Items that were asked beyond the one that decided."""
        judged = self._plan.weigher is not None
        for item, facts in self.tally.facts.items():
            if "golden" not in facts and self.tally.outcome(item) is None:
                await self._ledger.settle(item, outcome_of(facts, judged=judged), facts)


def _few(found: int, fewest: int) -> str:
    return f"{counted(found, 'held-out user')} with a recorded conversation: fewer than {fewest} show nothing"
