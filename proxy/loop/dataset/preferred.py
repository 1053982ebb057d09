"""What people prefer of answers that checks have compared, put on the samples whose questions were asked.

Only samples get it that may be trained on anyway: whatever a check has asked, what becomes training data is decided by
the record. Selection takes it away again where the user is for evaluation only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from policies.records import AnswerOf, Preferred, Sample
from proxy.store.reading.preferred import Preference
from proxy.wire.compared import answered, failure_of

__all__ = ["KnowsPreferences", "Preferring"]

_Key = tuple[int, str]


@runtime_checkable
class KnowsPreferences(Protocol):
    """The part of the store that knows what people prefer. What has it not (an archive) is asked for nothing."""

    async def preferences(self) -> Mapping[str, Sequence[Preference]]:
        """By record id."""
        ...

    async def compared(self, keys: Sequence[_Key]) -> Mapping[_Key, Mapping[str, Any]]:
        """The texts of comparisons, by check and item."""
        ...


class Preferring:
    """The preferences of one build."""

    def __init__(self, source: KnowsPreferences, by_record: Mapping[str, Sequence[Preference]]) -> None:
        self._source = source
        self._by_record = by_record

    @classmethod
    async def of(cls, source: object) -> Preferring | None:
        """None where there are none, or `source` does not know any."""
        if not isinstance(source, KnowsPreferences):
            return None
        found = await source.preferences()
        return cls(source, found) if found else None

    async def put(self, batch: list[Sample], generations: Mapping[str, int]) -> list[Sample]:
        """The batch, with what people prefer on the samples that it is about."""
        wanted = [one for sample in batch for one in self._by_record.get(sample.record_id, ())]
        if not wanted:
            return batch
        texts = await self._source.compared([one.key for one in wanted])
        return await asyncio.to_thread(lambda: [self._with(sample, texts, generations) for sample in batch])

    def _with(self, sample: Sample, texts: Mapping[_Key, Mapping[str, Any]], generations: Mapping[str, int]) -> Sample:
        found = tuple(
            _preferred(one, texts[one.key], generations)
            for one in self._by_record.get(sample.record_id, ())
            if one.key in texts and not _failed(texts[one.key])
        )
        return replace(sample, preferred=found) if found else sample


def _failed(texts: Mapping[str, Any]) -> bool:
    """Whether one of the two gave no answer: what its server said instead is nothing to learn from."""
    return failure_of(texts, "champion") is not None or failure_of(texts, "challenger") is not None


def _preferred(one: Preference, texts: Mapping[str, Any], generations: Mapping[str, int]) -> Preferred:
    champion = AnswerOf(
        turn=answered(texts, "champion").answer, model=one.champion, generation=generations.get(one.champion, 0)
    )
    challenger = AnswerOf(
        turn=answered(texts, "challenger").answer, model=one.challenger, generation=generations.get(one.challenger, 0)
    )
    if one.choice == "challenger":
        return Preferred(chosen=challenger, rejected=champion)
    return Preferred(chosen=champion, rejected=challenger)
