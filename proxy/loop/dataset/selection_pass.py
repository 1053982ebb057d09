"""One pass over the records: what was seen, what was dropped and why, what was staged."""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import orjson

from policies.caps import Caps
from policies.conversation import Lack
from policies.dedupe import Deduper
from policies.formats import FORMATS, Holds, Material, Partners, TrainingLine, lines, prepare
from policies.records import Author, Sample
from policies.selection import DataGeneratorConfig, Drop, DropReason, Exclusion, SelectionState, in_holdout, select
from proxy.loop.dataset.minhash import minhash
from proxy.loop.dataset.reading import read
from proxy.loop.dataset.staging import CapCounter, LineOrigin, LineRow, Split, Staging
from proxy.loop.dataset.tokens import characters
from proxy.patterns import finder

__all__ = ["Kept", "LineFormat", "Progress", "SelectionPass", "read_all"]

_EXAMPLES = 20
_DROP_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFormat:
    """A way to write lines that is none of the policies' formats."""

    name: str
    """What the manifest calls it."""
    lines: Callable[[Sample, Partners], list[TrainingLine]]
    """Lines of a kept sample."""
    refuses: Callable[[Sample], str | None] = lambda _: None
    """Why a sample cannot be written at all, as a key of the manifest's `dropped`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a build has come."""

    seen: int
    kept: int
    dropped: dict[str, int]


@dataclass(slots=True)
class Kept:
    """The lines of the training file, rehearsal aside, added up."""

    authors: Counter[Author] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    """By the model whose answer is learnt, or was corrected."""
    generations: Counter[int] = field(default_factory=Counter)
    """Of the lines that a model wrote."""
    liked: int = 0
    preferred: int = 0
    """From answers that people compared side by side."""
    regenerated: int = 0
    """From answers that users had made anew, and those that they kept."""
    reasoned: int = 0
    chars: int = 0

    def add(self, line: LineRow) -> None:
        """Count a line."""
        self.authors[line.author] += 1
        self.models[line.model] += 1
        if line.author is not Author.PERSON:
            self.generations[line.generation] += 1
        self.liked += line.liked
        self.preferred += line.preferred
        self.regenerated += line.regenerated
        self.reasoned += line.reasoned
        self.chars += line.chars


def read_all(batch: Iterable[Sample], generations: Mapping[str, int]) -> list[Sample]:
    """The samples with their conversations, and with the generation of the model that answered.

    On a thread of its own, where an event loop is to go on, like `SelectionPass.take`.
    """
    samples = list(map(read, batch))
    for sample in samples:
        sample.generation = generations.get(sample.model, sample.generation)
    return samples


class SelectionPass:
    """Feed samples newest first with `take`, then `finish` once.

    Every record seen is accounted for: it is `used`, or it is dropped for one reason. What the caps at the end take
    away counts a record only where none of its lines is left.
    """

    def __init__(self, config: DataGeneratorConfig, staging: Staging, line_format: LineFormat | None = None) -> None:
        self.staging = staging
        self.judged = staging.judged(_earlier(config, staging))
        usual = LineFormat(name=config.format_type, lines=self._usual, refuses=self._misfit)
        self.line_format = line_format or usual
        self._pairs = line_format is None and Holds.PAIRS in FORMATS[config.format_type].holds
        self._labels = line_format is None and FORMATS[config.format_type].needs_votes
        self._ready: Material | Lack | None = None
        self.seen = 0
        self.used = 0
        """Records in a line of the training file or of the holdout file; known after `finish`."""
        self.kept = Kept()
        """Known after `finish`."""
        self.in_parts = False
        """Whether every content of the files is to be a list of parts; known after `finish`."""
        self.dropped: Counter[str] = Counter()
        self.examples: defaultdict[str, list[str]] = defaultdict(list)
        """Ids of the newest 20 records that were dropped for a reason."""
        self._config = config
        self._style = config.style
        self._staged = 0
        self._state = SelectionState(
            excluded=Exclusion(map(finder, config.exclude)) if config.exclude else None,
            deduper=Deduper(config.near_duplicate_threshold, staging.index, minhash) if config.deduplicate else None,
        )
        self._caps = {split: _caps(config, staging, split) for split in Split}
        self._partners = {split: staging.partners(split) for split in Split}

    @property
    def satisfied(self) -> bool:
        """Whether older records cannot get into the file any more."""
        return self._caps[Split.TRAIN].satisfied

    def progress(self) -> Progress:
        """The counts so far."""
        return Progress(seen=self.seen, kept=self._staged, dropped=dict(self.dropped))

    def take(self, batch: Iterable[Sample]) -> None:
        """Select and stage a batch of read samples, newest first; on a thread of its own, where an event loop is to go
        on."""
        for sample in map(self._for_training, map(self.judged.applied, batch)):
            self.seen += 1
            reason = self.line_format.refuses(sample) or self._take(sample)
            if reason is not None:
                self._drop(str(reason), sample.record_id)

    def finish(self, *, in_parts: bool = False) -> None:
        """Apply the caps that depend on the whole. `in_parts`: the file has contents in parts in any case."""
        self.staging.write()
        self._decide_on_parts(in_parts)
        refused: array[int] = array("q")
        for split in Split:
            for _, group in groupby(self.staging.lines(split), key=attrgetter("record")):
                refused.extend(self._admit(split, list(group)))
                if len(refused) >= _DROP_AT_ONCE:
                    self.staging.drop(refused)
                    refused = array("q")
        self.staging.drop(refused)
        unpaired = self.staging.unpaired()
        if unpaired:
            self.dropped[DropReason.UNPAIRED.value] += unpaired
            self._example(DropReason.UNPAIRED.value, lambda: self.staging.unpaired_records(_EXAMPLES))

    def _decide_on_parts(self, in_parts: bool) -> None:
        """Whether lines with contents in parts are kept: all of a file has them, or none (policies.formats.layout)."""
        found = self.staging.in_parts()
        count = sum(lines for _, _, lines in found)
        total = sum(self.staging.count(split) for split in Split)
        wanted = self._config.attachments
        self.in_parts = in_parts or (bool(found) and (wanted == "keep" or (wanted == "auto" and 2 * count >= total)))
        if self.in_parts and wanted != "drop":
            for split, author, lines in found:
                self._caps[split].offer(author, lines)

    def _admit(self, split: Split, rows: Sequence[LineRow]) -> list[int]:
        """Ask the caps for the lines of one record; returns those that may not go into the file."""
        answers = [(line.seq, self._refusal(split, line)) for line in rows]
        reasons = {seq: why for seq, why in answers if why is not None}
        records = max(line.records for line in rows)
        if len(reasons) == len(rows):
            reason = reasons[rows[0].seq].value
            self.dropped[reason] += records
            self._example(reason, lambda: self.staging.records_of(rows[0].seq))
        else:
            self.used += records
        if split is Split.TRAIN:
            for line in rows:
                if line.seq not in reasons:
                    self.kept.add(line)
        return list(reasons)

    def _refusal(self, split: Split, line: LineRow) -> DropReason | None:
        if line.parts and (not self.in_parts or self._config.attachments == "drop"):
            return DropReason.MULTIMODAL
        return self._caps[split].admit(line.author)

    def _for_training(self, sample: Sample) -> Sample:
        """Without what people prefer, where the sample is for evaluation only: a preference is never on both sides."""
        if sample.preferred and (not self._labels or in_holdout(sample, self._config.holdout_share)):
            return replace(sample, preferred=())
        return sample

    def _take(self, sample: Sample) -> DropReason | None:
        if sample.said.lacks is None and sample.trainable and self.judged.rejects(sample):
            return DropReason.NEGATIVE_FEEDBACK
        verdict = select(sample, self._config, self._state)
        if isinstance(verdict, Drop):
            return verdict.reason
        split = Split.HOLDOUT if verdict.holdout else Split.TRAIN
        partners = self._partners[split]
        capped = self._capped(split, sample)
        if capped is not None:
            return capped
        waited = partners.waiting
        made = self.line_format.lines(sample, partners)
        for line in made:
            self._stage(split, sample, line)
        if made or partners.waiting > waited:
            return None
        return DropReason.UNPAIRED if self._pairs else DropReason.NOT_IN_FORMAT

    def _capped(self, split: Split, sample: Sample) -> DropReason | None:
        """What one user, or one cluster, may contribute."""
        caps = self._caps[split]
        over = None if sample.correction is None else caps.claim_correction(sample.user, sample.cluster)
        return over or caps.claim(sample.user)

    def _stage(self, split: Split, sample: Sample, line: TrainingLine) -> None:
        """Keep a line with what the manifest and the lineage say of it."""
        partner, disliked = line.partner, (sample.feedback or 0.0) < 0
        sources = [_origin(sample, line)]
        model, liked = sample.model, sample.correction is None and (sample.feedback or 0.0) > 0
        if partner is not None:
            vote = 1.0 if disliked else -1.0
            kin = LineOrigin(partner.record_id, partner.user, partner.model, partner.generation, partner.author, vote)
            sources.append(kin)
            liked = True
            model = partner.model if disliked else model
        if line.model is not None:
            model, liked = line.model, False
        if not line.parts:  # the others are offered once it is known whether they are kept
            self._caps[split].offer(line.author)
        self.staging.stage(
            split,
            self.seen,
            line,
            model,
            sources,
            _dump(line.body),
            liked=liked and line.author is not Author.PERSON,
            reasoned=_thought(sample),
            preferred=line.preferred,
            regenerated=line.regenerated,
            chars=characters(line.body),
        )
        self._staged += 1

    def _drop(self, reason: str, record_id: str) -> None:
        self.dropped[reason] += 1
        self._example(reason, lambda: [record_id])

    def _example(self, reason: str, record_ids: Callable[[], list[str]]) -> None:
        examples = self.examples[reason]
        if len(examples) < _EXAMPLES:
            examples += record_ids()[: _EXAMPLES - len(examples)]

    def _misfit(self, sample: Sample) -> Lack | None:
        """Why it does not fit the format; else it is ready for `_usual`, which is asked about it next."""
        if sample.said.lacks:
            return None  # for a reason that is told later
        self._ready = prepare(sample, self._style)
        return self._ready if isinstance(self._ready, Lack) else None

    def _usual(self, _: Sample, partners: Partners) -> list[TrainingLine]:
        assert isinstance(self._ready, Material)
        return lines(self._ready, partners)


def _origin(sample: Sample, line: TrainingLine) -> LineOrigin:
    """The record of a line, and who wrote what is learnt from it."""
    if line.preferred or line.regenerated:
        names = line.model or "", line.generation, line.author
    else:
        names = sample.model, sample.generation, sample.author
    return LineOrigin(sample.record_id, sample.user, *names, sample.feedback)


def _caps(config: DataGeneratorConfig, staging: Staging, split: Split) -> Caps:
    return Caps(
        config,
        users=staging.tally(split, CapCounter.SAMPLES),
        correctors=staging.tally(split, CapCounter.CORRECTIONS),
        clusters=staging.tally(split, CapCounter.CORRECTIONS_OF_CLUSTER),
    )


def _earlier(config: DataGeneratorConfig, staging: Staging) -> Caps:
    """For corrections of earlier turns; they are put into whichever split a later conversation is in."""
    return Caps(
        config,
        correctors=staging.tally(Split.TRAIN, CapCounter.EARLIER_CORRECTIONS),
        clusters=staging.tally(Split.TRAIN, CapCounter.EARLIER_CORRECTIONS_OF_CLUSTER),
    )


def _thought(sample: Sample) -> bool:
    """Whether the answer, or an earlier turn, came with what the model thought."""
    said = sample.conversation
    if said is None:
        return False
    return bool(said.answer.reasoning) or any(turn.reasoning for turn in said.turns)


def _dump(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # a lone surrogate, which is no UTF-8
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
