"""One pass over the records: what was seen, what was dropped and why, what was staged."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from policies.dedupe import Deduper
from policies.formats import Line, Misfit, Partners, lines, refuses
from policies.records import Sample
from policies.selection import Caps, DataGeneratorConfig, Drop, DropReason, SelectionState, select
from proxy.loop.dataset.reading import read
from proxy.loop.dataset.staging import Source, Split, Staging

__all__ = ["LineFormat", "Picking", "Progress"]

_BREATH_EVERY = 4
"""Samples, about a millisecond of work, …"""
_BREATH_S = 1e-5
"""… after which the interpreter is left to others. A thread that computes keeps it for 5 ms at a time, and the event
loop beside it, whose every step waits for it anew, would do half of its work."""
_NEVER = threading.Event()
"""Waited for in vain, for `time.sleep` fails under a faked clock (libfaketime)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFormat:
    """A way to write lines that is none of the policies' formats."""

    name: str
    """What the manifest calls it."""
    lines: Callable[[Sample, Partners], list[Line]]
    """Lines of a kept sample."""
    refuses: Callable[[Sample], str | None] = lambda _: None
    """Why a sample can not be written at all, as a key of the manifest's `dropped`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a build has come."""

    seen: int
    kept: int
    dropped: dict[str, int]


class Picking:
    """Feed samples newest first with `take`, then `finish` once."""

    def __init__(self, config: DataGeneratorConfig, staging: Staging, line_format: LineFormat | None = None) -> None:
        self.staging = staging
        self.judged = staging.judged()
        usual = LineFormat(name=config.format_type, lines=self._usual, refuses=self._misfit)
        self.line_format = line_format or usual
        self.seen = 0
        self.dropped: Counter[str] = Counter()
        self._config = config
        self._style = config.style
        self._staged = 0
        deduper = Deduper(config.near_duplicate_threshold, staging) if config.deduplicate else None
        self._state = SelectionState(deduper=deduper)
        self._caps = {split: Caps(config, staging.tally(split)) for split in Split}
        self._partners = {split: staging.partners(split) for split in Split}

    @property
    def satisfied(self) -> bool:
        """Whether older records can not get into the file any more."""
        return self._caps[Split.TRAIN].satisfied

    def progress(self) -> Progress:
        """The counts so far."""
        return Progress(seen=self.seen, kept=self._staged, dropped=dict(self.dropped))

    def take(self, batch: Iterable[Sample]) -> None:
        """Select and stage a batch, newest first; on a thread of its own, where an event loop is to go on."""
        for logged in batch:
            sample = self.judged.applied(read(logged))
            self.seen += 1
            reason = self.line_format.refuses(sample) or self._take(sample)
            if reason is not None:
                self.dropped[str(reason)] += 1
            if self.seen % _BREATH_EVERY == 0:
                _NEVER.wait(_BREATH_S)

    def finish(self) -> None:
        """Apply the caps that depend on the whole."""
        for split in Split:
            refused: list[int] = []
            for line in self.staging.lines(split):
                reason = self._caps[split].admit(line.author)
                if reason is not None:
                    refused.append(line.seq)
                    self.dropped[reason.value] += 1
            self.staging.drop(refused)
        unpaired = self.staging.unpaired()
        if unpaired:
            self.dropped[DropReason.UNPAIRED.value] += unpaired

    def _take(self, sample: Sample) -> DropReason | None:
        verdict = select(sample, self._config, self._state)
        if isinstance(verdict, Drop):
            return verdict.reason
        split = Split.HOLDOUT if verdict.holdout else Split.TRAIN
        caps = self._caps[split]
        capped = caps.claim(sample.user)
        if capped is not None:
            return capped
        for line in self.line_format.lines(sample, self._partners[split]):
            sources = [Source(sample.record_id, sample.user)]
            if line.partner is not None:
                sources.append(Source(line.partner.record_id, line.partner.user))
            caps.offer(line.author)
            self.staging.stage(split, line, sample.model, sources, _dump(line.body))
            self._staged += 1
        return None

    def _usual(self, sample: Sample, partners: Partners) -> list[Line]:
        return lines(sample, self._style, partners)

    def _misfit(self, sample: Sample) -> Misfit | None:
        return None if sample.said.lacks else refuses(sample, self._style)


def _dump(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # a lone surrogate, which is no UTF-8
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
