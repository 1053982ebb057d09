"""Compares one item: asks what is still to be asked, keeps it, has it judged.

Every answer goes into the ledger before anything follows from it; an item that stands there is not asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from policies.comparison import compare
from proxy.checks.asking import Asker, Unreached
from proxy.checks.facts import SIDES, facts_of, is_hard
from proxy.checks.golden import Line
from proxy.checks.plan import CheckPlan
from proxy.checks.pool import Away
from proxy.checks.ports import Asked, AskedModel, CheckLedger
from proxy.checks.prompts import Recorded
from proxy.checks.reading import Read, no_answer, read
from proxy.checks.tally import CheckTally
from proxy.checks.weighing import Silent
from proxy.store.control.comparisons import ComparedRow
from proxy.tasks import to_the_end

__all__ = ["CheckItems", "texts_of"]


class CheckItems:
    """The items of one check; what comes of them is in `tally`."""

    def __init__(self, plan: CheckPlan, ledger: CheckLedger, asker: Asker, tally: CheckTally) -> None:
        self._plan = plan
        self._ledger = ledger
        self._asker = asker
        self._tally = tally
        self._lines = {line.item: line for line in plan.cases.lines} if plan.cases is not None else {}
        self._fresh: dict[str, tuple[Read, Read]] = {}
        """Answers whose judgement is still to come, while they are at hand."""

    async def conversation(self, item: str, last: bool) -> Away | None:
        """A recorded question. `last`: a challenger that cannot be reached for it has not answered it, and a judge who
        says nothing has nothing to say."""
        plan, facts = self._plan, self._tally.facts
        if item not in facts:
            prompt = await plan.conversations.get(item) if plan.conversations is not None else None
            if prompt is None:
                self._tally.gone.add(item)
                return None
            answer = await self._answer(prompt)
            if isinstance(answer, Unreached):
                if answer.refused or not last:
                    return Away(answer.reason, for_good=answer.refused)
                answer = no_answer(prompt.asked, answer.reason)
            await self._keep_pair(item, prompt, answer)
        if plan.weigher is not None and not is_hard(facts[item]) and "judge" not in facts[item]:
            judged = await plan.weigher.weigh(*await self._both(item))
            if isinstance(judged, Silent) and not last:
                return Away(judged.reason)
            judged = {"by": "none", "tokens": 0} if isinstance(judged, Silent) else judged
            facts[item] = {**facts[item], "judge": judged}
            await self._ledger.settle(item, None, facts[item])
        self._fresh.pop(item, None)
        return None

    async def _answer(self, prompt: Recorded) -> Read | Unreached:
        """The answer. A failure is asked once more: the answers of the champion were drawn among those that went
        well, so what fails now and then would count against the challenger alone."""
        answer = await self._asker.ask(self._plan.challenger, prompt.asked, model_name=self._plan.config.model_name)
        if isinstance(answer, Unreached) or not answer.answer.failed:
            return answer
        return await self._asker.ask(self._plan.challenger, prompt.asked, model_name=self._plan.config.model_name)

    async def _keep_pair(self, item: str, prompt: Recorded, answer: Read) -> None:
        champion = prompt.champion
        facts = await asyncio.to_thread(self._compared, self._tally.place(item), champion, answer, fresh=False)
        row = ComparedRow(
            check_id=0,
            item=item,
            record_id=prompt.record_id,
            user_hash=prompt.user_hash,
            tags=prompt.tags,
            facts=facts,
            data=texts_of(prompt.asked, champion, answer),
        )
        await self._keep(row, (champion, answer))

    async def _keep(self, row: ComparedRow, pair: tuple[Read, Read]) -> None:
        """In the ledger and in the tally, also where the check ends meanwhile: a row that the tally does not know would
        never get an outcome."""
        await to_the_end(self._added(row, pair), name=f"keeping {row.item}")

    async def _added(self, row: ComparedRow, pair: tuple[Read, Read]) -> None:
        await self._ledger.add(row)
        self._tally.facts[row.item], self._fresh[row.item] = dict(row.facts), pair

    def _compared(self, order: float, champion: Read, answer: Read, *, fresh: bool) -> dict[str, Any]:
        rewritten = answer.question if self._plan.challenger.rewrite is not None else None
        found = compare(champion.question, champion.answer, answer.answer, self._plan.scoring, rewritten=rewritten)
        return facts_of(order, champion, answer, found, fresh=fresh)

    async def _both(self, item: str) -> tuple[Read, Read]:
        """Both answers, from the ledger where another process has asked."""
        if item not in self._fresh:
            self._fresh[item] = await asyncio.to_thread(_reread, await self._ledger.texts(item) or {})
        return self._fresh[item]

    async def golden(self, item: str, last: bool) -> Away | None:
        """A case of the golden file, asked of both. `last`: a challenger that cannot be reached has not answered it;
        without the champion or the judge there is no verdict."""
        line, facts = self._lines[item], self._tally.facts
        if item not in facts:
            champion, challenger = await asyncio.gather(
                self._ask(self._plan.champion, line), self._ask(self._plan.challenger, line)
            )
            if isinstance(champion, Unreached):
                return Away(champion.reason, for_good=champion.refused or last)
            if isinstance(challenger, Unreached):
                if challenger.refused or not last:
                    return Away(challenger.reason, for_good=challenger.refused)
                challenger = no_answer(line.asked, challenger.reason)
            await self._keep_line(line, champion, challenger)
        if facts[item]["golden"].get("pending"):
            assert self._plan.rubrics is not None, "a file with rubrics is refused where there is no judge"
            fits = await self._plan.rubrics.fits(await self._both(item), str(line.expect.rubric))
            if isinstance(fits, Silent):
                return Away(fits.reason, for_good=last)
            facts[item] = {**facts[item], "golden": self._with_rubric(facts[item]["golden"], fits)}
        golden = facts[item]["golden"]
        outcome = float(bool(golden["champion"])) - float(bool(golden["challenger"]))
        await self._ledger.settle(item, outcome, facts[item])
        self._fresh.pop(item, None)
        return None

    async def _ask(self, endpoint: AskedModel | None, line: Line) -> Read | Unreached:
        if endpoint is None:  # nobody to compare with: as if the champion passed
            return read(line.asked, status=200, response=b"", media_type="application/json")
        mind = self._plan.config.model_name and endpoint is self._plan.challenger
        return await self._asker.ask(endpoint, line.asked, model_name=mind)

    async def _keep_line(self, line: Line, champion: Read, challenger: Read) -> None:
        facts = await asyncio.to_thread(self._case_facts, line, champion, challenger)
        texts = texts_of(line.asked, champion, challenger)
        row = ComparedRow(check_id=0, item=line.item, tags=line.tags, facts=facts, data=texts)
        await self._keep(row, (champion, challenger))

    def _case_facts(self, line: Line, champion: Read, challenger: Read) -> dict[str, Any]:
        asked = self._plan.champion is not None
        golden = {
            "name": line.name,
            "champion": list(line.expect.complaints(champion.answer)) if asked else [],
            "challenger": list(line.expect.complaints(challenger.answer)),
            "pending": line.expect.rubric is not None,
        }
        return {**self._compared(float(line.number), champion, challenger, fresh=True), "golden": golden}

    def _with_rubric(self, golden: Mapping[str, Any], fits: tuple[bool, bool]) -> dict[str, Any]:
        changed = {**golden, "pending": False}
        for side, fit in zip(SIDES, fits, strict=True):
            if not fit and (side == "challenger" or self._plan.champion is not None):
                changed[side] = [*golden[side], "is not as the rubric wants it"]
        return changed


def texts_of(asked: Asked, champion: Read, challenger: Read) -> dict[str, Any]:
    """What was said, see `ComparedRow.data`."""
    sides = {"champion": champion, "challenger": challenger}
    answers = {
        side: {"text": one.answer.text, "body": one.body, "failed": one.answer.failed} for side, one in sides.items()
    }
    return {"target": asked.target, "request": asked.body.decode("utf-8", "replace"), **answers}


def _reread(texts: Mapping[str, Any]) -> tuple[Read, Read]:
    asked = Asked(target=texts["target"], body=texts["request"].encode())
    champion, challenger = (
        read(asked, status=200, response=texts[side]["body"].encode(), media_type="application/json") for side in SIDES
    )
    return champion, challenger
