"""Puts the champion's answer to a request beside the challenger's to its copy (`proxy.ingest.answers`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from policies.comparison import compare
from policies.kinds import TASK
from policies.records import Outcome
from policies.scoring import ScoringConfig
from policies.shadowing import Missing
from proxy.checks.asking import BUSY, body_for
from proxy.checks.facts import facts_of
from proxy.checks.items import texts_of
from proxy.checks.ports import AskedModel
from proxy.checks.prompts import Recorded, recorded_of
from proxy.checks.reading import Read, read
from proxy.store.control.comparisons import ComparedRow
from proxy.store.tables.values import RecordFlag, RecordView

__all__ = ["Pairing", "is_paired"]

_UNREACHED: Final = frozenset(("refused", "unresolved", "no_connection", "unreachable", "tls"))
_LATE: Final = ("late", "silent")
_CUT: Final = RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE
_FAILURES: Final = {
    "closed": "the connection was closed before the answer",
    "broken_off": "the answer broke off",
    "no_http": "what came was no HTTP response",
    "silent": "no answer in time",
    "late": "no whole answer in time",
    "too_long": "the answer was longer than is kept of any",
}


def is_paired(row: ComparedRow) -> bool:
    """Whether both answers are there, or it is known that they cannot be compared."""
    return "shadow" not in row.facts or "champion" in row.facts or "missing" in row.facts


class Pairing:
    """Of one check: its two models, and how answers are looked at."""

    def __init__(
        self, champion: AskedModel, champion_id: int, challenger: AskedModel, scoring: ScoringConfig, *,
        model_name: bool, timeout_s: float,
    ) -> None:  # fmt: skip
        """The endpoints need no credentials: nothing is asked. `model_name`: an answer has to name the model that was
        asked for; `timeout_s`: the time that a copy has."""
        self._champion = champion
        self._champion_id = champion_id
        self._challenger = challenger
        self._scoring = scoring
        self._model_name = model_name
        self._timeout_s = timeout_s

    def pair(self, half: ComparedRow, view: RecordView) -> ComparedRow | None:
        """The whole comparison, or the half with what is missing; None where it is none of this check: another champion
        answered, or a chat UI asked for itself, or the user wants it used for nothing."""
        row = view.row
        if row.model_id != self._champion_id or row.kind == TASK.name or RecordFlag.NO_TRAIN in row.flags:
            return None
        half = replace(half, user_hash=row.user_hash)
        if (missing := self._missing(half.facts["shadow"], view)) is not None:
            return _lacking(half, missing)
        prompt = recorded_of(view, self._champion.model if self._model_name else None)
        champion = prompt.champion
        if row.outcome.failed and champion.answer.failed is None:
            champion = replace(champion, answer=replace(champion.answer, failed="it was not answered"))
        challenger = self._read(half, prompt)
        rewritten = challenger.question if self._challenger.rewrite is not None else None
        found = compare(champion.question, champion.answer, challenger.answer, self._scoring, rewritten=rewritten)
        facts = facts_of(half.created_us, champion, challenger, found, fresh=False)
        return replace(
            half,
            tags=prompt.tags,
            facts={**facts, "shadow": half.facts["shadow"], "conversation": row.conversation},
            data=texts_of(prompt.asked, champion, challenger),
        )

    def _missing(self, told: dict[str, Any], view: RecordView) -> Missing | None:
        row, fault = view.row, told["fault"]
        if fault in _UNREACHED:
            return Missing.UNREACHED
        if told["status"] in BUSY:
            return Missing.BUSY
        if fault in _LATE and row.upstream_us >= self._timeout_s * 1e6:
            return Missing.SLOW
        if row.flags & _CUT or (told["cut"] and fault is None):
            return Missing.CUT
        if view.body is None or told["lost"] or RecordFlag.UNREAD in row.flags:
            return Missing.UNREAD
        return None

    def _read(self, half: ComparedRow, prompt: Recorded) -> Read:
        """The challenger's answer."""
        told = half.facts["shadow"]
        raw: str = half.data["challenger"]["raw"]
        found = read(
            replace(prompt.asked, body=body_for(self._challenger, prompt.asked)),
            status=told["status"],
            response=raw.encode("latin-1" if told["latin"] else "utf-8"),
            media_type=told["type"],
            latency_s=told["duration_us"] / 1e6,
            asked_model=self._challenger.model if self._model_name else None,
            cut=told["cut"],
        )
        failed = _FAILURES.get(told["fault"])
        if failed is None and Outcome(told["outcome"]).failed:
            failed = "there was no answer"
        if found.answer.partial and not told["cut"] and found.answer.failed is None:
            failed = "its answer could not be read"
        return found if failed is None else replace(found, answer=replace(found.answer, failed=failed))


def _lacking(half: ComparedRow, missing: Missing) -> ComparedRow:
    return replace(half, facts={"shadow": half.facts["shadow"], "missing": missing.value})
