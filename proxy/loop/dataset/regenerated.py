"""Answers that users had made anew, put under the ones that they kept: pairs to learn from, where that is chosen.

The kept answer is the sample's own; the first one is another record of the same user. Nobody said that it was bad, so
these pairs have a count of their own, and are off by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from policies.records import AnswerOf, Preferred, Sample
from proxy.wire.conversation import conversation_of

__all__ = ["KnowsRegenerated", "Regenerated"]


@runtime_checkable
class KnowsRegenerated(Protocol):
    """The part of the store that knows what users had made anew. What has it not (an archive) is asked for nothing."""

    async def regenerated(self, record_ids: Sequence[str]) -> Mapping[str, Sample]:
        """By those of the records whose answer was kept: the first answer, which was not."""
        ...


class Regenerated:
    """The first answers, for one build."""

    def __init__(self, source: KnowsRegenerated) -> None:
        self._source = source

    @classmethod
    def of(cls, source: object) -> Regenerated | None:
        """None where `source` knows nothing of it."""
        return cls(source) if isinstance(source, KnowsRegenerated) else None

    async def put(self, batch: list[Sample], generations: Mapping[str, int]) -> list[Sample]:
        """The batch, with the first answers under those that were kept."""
        rejected = await self._source.regenerated([sample.record_id for sample in batch])
        if not rejected:
            return batch
        return await asyncio.to_thread(lambda: [_with(sample, rejected, generations) for sample in batch])


def _with(sample: Sample, rejected: Mapping[str, Sample], generations: Mapping[str, int]) -> Sample:
    first = rejected.get(sample.record_id)
    if first is None or not sample.trainable or not first.trainable:
        return sample
    pair = Preferred(chosen=_answer(sample, generations), rejected=_answer(first, generations), regenerated=True)
    return replace(sample, preferred=(*sample.preferred, pair))


def _answer(sample: Sample, generations: Mapping[str, int]) -> AnswerOf:
    turn = (sample.conversation or conversation_of(sample)).answer
    return AnswerOf(turn=turn, model=sample.model, generation=generations.get(sample.model, sample.generation))
