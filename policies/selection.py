"""Which logged exchanges become training data.

Two steps, both streaming. `select` judges one sample on its own and against the texts before it. `policies.caps` then
admits the kept ones, newest first, so that no user, no challenger and no total outgrows its share.

A correction is an answer that a person wrote: it replaces the model's, and neither the score nor the votes of the
answer that it replaces count against it. Negative votes are dropped, except in the formats that learn from them (dpo,
kto).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeVar

from policies.assignment import unit_interval
from policies.conversation import Conversation, Lack
from policies.dedupe import Deduper, Duplicate, seen_of
from policies.formats import FORMATS, FormatType, Style
from policies.intervals import Interval
from policies.records import Sample

__all__ = ["RENAMED", "DataGeneratorConfig", "Drop", "DropReason", "Exclusion", "FormatType", "Keep",
           "SelectionState", "held_out", "in_holdout", "rehearsal_count", "select"]  # fmt: skip

_T = TypeVar("_T")
_HOLDOUT_SALT = b"ratchet-holdout"  # fixed: a user stays on one side from one dataset to the next
_LOOKED_AT = 4000  # characters from either end of a text: a pattern that backtracks takes its time on all of them

RENAMED: Final = {"max_challenger_share": "max_own_share"}
"""Settings of `DataGeneratorConfig` under the names that they had before; they are still taken."""


def _with_old_names(cls: type[_T]) -> type[_T]:
    """Let the class be called with the old names of its settings, too."""
    made: Callable[..., None] = cls.__init__

    @functools.wraps(made)
    def init(self: _T, *args: Any, **settings: Any) -> None:
        for old, new in RENAMED.items():
            if old not in settings:
                continue
            if new in settings:
                raise TypeError(f"{old} is now called {new}, and both are given; keep {new}")
            settings[new] = settings.pop(old)
        made(self, *args, **settings)

    setattr(cls, "__init__", init)  # noqa: B010 - mypy lets nobody assign to it
    return cls


@_with_old_names
@dataclass(frozen=True, slots=True, kw_only=True)
class DataGeneratorConfig:
    """What goes into a training file, and in which format."""

    min_quality_score: Annotated[float | None, Interval("[0, 1]", "a score, 0 to 1")] = 0.7
    """Lowest quality score kept (0 to 1); unscored samples are dropped. None: no such filter."""
    min_user_feedback: Annotated[int | None, Interval("[-1, 1]", "a vote: −1, 0 or 1")] = None
    """Lowest vote kept: 1 keeps only thumbs up. None: no vote needed, but thumbs down are dropped all the same."""
    deduplicate: bool = True
    """Drop exact and near duplicates (the same conversation, question and answer both the same up to wording)."""
    near_duplicate_threshold: Annotated[float, Interval("(0, 1]", "a share, 0 to 1")] = 0.85
    """Estimated Jaccard similarity of word shingles (0 to 1) from which two questions, or answers, are the same."""
    max_samples: Annotated[int | None, Interval("[1, inf)", "a count")] = None
    """Newest samples kept; None: all."""
    max_samples_per_user: Annotated[int | None, Interval("[1, inf)", "a count")] = 200
    """No user contributes more than this, so that one heavy user does not become the model. None: no cap."""
    max_own_share: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.5
    """Largest share of lines that a model wrote which was trained here (0 to 1): a model must not feed on itself."""
    max_correction_share: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.2
    """Largest share of lines that corrections are (0 to 1; one may be in any file): nobody is to write the model's
    answers for it. 1 where you know the people who correct."""
    max_corrections_per_user: Annotated[int | None, Interval("[1, inf)", "a count")] = 20
    """No user contributes more corrections than this, nor does a cluster of names that nobody vouches for. None: no
    cap."""
    learn_from_regenerated: bool = False
    """Pairs (dpo, kto) also of answers that users had made anew and those that they kept. Off: nobody said which is
    better."""
    train_on: Literal["last", "all"] = "last"
    """Which of the model's turns are learnt: the answer alone, or earlier ones too. chatml writes it as weights."""
    keep_reasoning: bool = False
    """Keep what the model thought (`reasoning_content`, thinking blocks, `<think>`); off: all of it is left out."""
    attachments: Literal["auto", "keep", "drop"] = "auto"
    """Lines with pictures, sounds or files: keep (every content of the file is then a list of parts), drop, or auto:
    keep where most lines have some, since a chat template for words alone does not take parts."""
    exclude: tuple[str, ...] = ()
    """Regular expressions; what matches one in its system prompt or its question is no training data."""
    holdout_share: Annotated[float, Interval("[0, 1)", "a share, 0 to 1")] = 0.05
    """Share of users whose samples go to a separate file, for evaluation only (0 to 1)."""
    format_type: FormatType = "chatml"
    """Line format, see the reference of records. dpo needs corrections or votes both ways, kto votes."""
    system_prompt: str | None = None
    """A system message put before every conversation that has none; a completion gets none."""
    include_existing_data: bool = False
    """Mix a rehearsal buffer in, against forgetting."""
    existing_data_path: str | None = None
    """JSONL file of rehearsal samples, in the same format as the output."""
    existing_data_share: Annotated[float, Interval("[0, 1)", "a share, 0 to 1")] = 0.3
    """Share of the training file that comes from the rehearsal buffer, as far as it reaches (0 to 1)."""
    tokenizer: str | None = None
    """Tokenizer of the model (a tokenizer.json, or a folder with one) to count tokens by; none: characters / 4."""
    cost_per_million_tokens: Annotated[float | None, Interval("[0, inf)", "money for a million tokens")] = None
    """What a trainer charges for a million tokens, in whatever currency: manifest and console then estimate a run."""

    @property
    def style(self) -> Style:
        """How lines are written."""
        return Style(
            format_type=self.format_type,
            system_prompt=self.system_prompt,
            train_on=self.train_on,
            keep_reasoning=self.keep_reasoning,
        )


class DropReason(StrEnum):
    """Why a record is not in a training file. The values are the keys of the manifest's `dropped`."""

    NOT_TRAINABLE = "not_trainable"
    """The request asked not to be used for training."""
    DELETED_USER = "deleted_user"
    EMPTY = "empty"
    """No question or no answer could be read."""
    EXCLUDED = "excluded"
    """A pattern of `generator_config.exclude` matches."""
    CONTEXT_ELSEWHERE = Lack.CONTEXT_ELSEWHERE.value
    MULTIMODAL = Lack.MULTIMODAL.value
    TRUNCATED = Lack.TRUNCATED.value
    UNREAD = Lack.UNREAD.value
    MALFORMED = Lack.MALFORMED.value
    NOT_IN_FORMAT = Lack.NOT_IN_FORMAT.value
    """The format has no place for something that was said: tools, mostly."""
    NEGATIVE_FEEDBACK = "negative_feedback"
    NO_FEEDBACK = "no_feedback"
    """The settings or the format need a vote, and there is none (or a neutral one where it must take a side)."""
    LOW_FEEDBACK = "low_feedback"
    UNSCORED = "unscored"
    LOW_QUALITY = "low_quality"
    EXACT_DUPLICATE = Duplicate.EXACT.value
    NEAR_DUPLICATE = Duplicate.NEAR.value
    USER_CAP = "user_cap"
    OWN_SHARE = "own_share"
    CORRECTION_SHARE = "correction_share"
    CORRECTIONS_OF_ONE = "corrections_of_one"
    """More corrections than `max_corrections_per_user` of one user, or of one cluster."""
    MAX_SAMPLES = "max_samples"
    UNPAIRED = "unpaired"
    """dpo only: no answer with the opposite vote to the same question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The sample may be used."""

    holdout: bool
    """For evaluation only."""


_KEPT = Keep(holdout=False)
_HELD_OUT = Keep(holdout=True)


@dataclass(frozen=True, slots=True)
class Drop:
    """The sample is left out."""

    reason: DropReason


@dataclass(slots=True, kw_only=True)
class SelectionState:
    """What one pass over the records remembers."""

    excluded: Exclusion | None = None
    """Patterns of what is no training data; None: there are none."""
    deleted_users: Container[int] = frozenset()
    """Hashes of users whose data must never train again."""
    deduper: Deduper | None = None
    """Texts seen in this pass; None keeps duplicates."""


class Exclusion:
    """Tells by regular expressions what is no training data, such as a chat UI's requests for titles."""

    def __init__(self, finds: Iterable[Callable[[str], bool]]) -> None:
        """`finds`: for each pattern whether a text contains what it describes, in time linear in the text."""
        self._finds = tuple(finds)

    def matches(self, said: Conversation) -> bool:
        """Whether a pattern is found in the system prompt or in the last user turn.

        Of a text beyond 8,000 characters only the first and the last 4,000 are searched.
        """
        asked = said.question
        texts = [turn.text for turn in said.turns if turn.role == "system" or turn is asked]
        return any(finds(part) for text in texts for part in _ends_of(text) for finds in self._finds)


def _ends_of(text: str) -> tuple[str, ...]:
    return (text,) if len(text) <= 2 * _LOOKED_AT else (text[:_LOOKED_AT], text[-_LOOKED_AT:])


def select(sample: Sample, config: DataGeneratorConfig, state: SelectionState) -> Keep | Drop:
    """Judge one sample. The first text of a group of duplicates is the one that is kept."""
    said = sample.said
    reason = (
        _permission(sample, state.deleted_users)
        or _content(said, sample.correction, state.excluded)
        or _merit(sample, config)
    )
    if reason is not None:
        return Drop(reason)
    if state.deduper is not None:
        parts = seen_of(said, sample.correction)
        duplicate = state.deduper.seen(parts.question, parts.answer, parts.context)
        if duplicate is not None:
            return Drop(DropReason(duplicate.value))
    return _HELD_OUT if in_holdout(sample, config.holdout_share) else _KEPT


def in_holdout(sample: Sample, share: float) -> bool:
    """Whether the sample is for evaluation only: all of a user's are or none, and the user stays there for good.

    Without a user (a key that was random per request) the record stands for itself.
    """
    return held_out(sample.record_id, sample.user, share)


def held_out(record_id: str, user: int | None, share: float) -> bool:
    """As `in_holdout`, of whom only this is known."""
    key = record_id if user is None else str(user)
    return unit_interval(_HOLDOUT_SALT, key.encode()) < share


def rehearsal_count(new: int, available: int, share: float) -> int:
    """Rehearsal samples to add to `new` ones so that they are `share` (0 to 1) of the file, as far as they reach."""
    if share >= 1.0:
        return available
    return min(available, round(new * share / (1.0 - share)))


def _permission(sample: Sample, deleted_users: Container[int]) -> DropReason | None:
    if not sample.trainable:
        return DropReason.NOT_TRAINABLE
    if sample.user is not None and sample.user in deleted_users:
        return DropReason.DELETED_USER
    return None


def _content(said: Conversation, correction: str | None, excluded: Exclusion | None) -> DropReason | None:
    """Why what was said cannot be learnt."""
    if said.lacks is not None:
        return DropReason(said.lacks.value)
    question = said.question
    if said.turns and said.turns[-1].role == "assistant" and not said.turns[-1].calls:
        return DropReason.EMPTY  # what was asked last said nothing
    answered = not said.answer.empty if correction is None else correction.strip()
    if question is None or question.empty or not answered:
        return DropReason.EMPTY
    if excluded is not None and excluded.matches(said):
        return DropReason.EXCLUDED
    return None


def _merit(sample: Sample, config: DataGeneratorConfig) -> DropReason | None:
    if sample.correction is not None:
        return None
    reason = _votes(sample, config)
    if reason is not None or (sample.feedback is not None and sample.feedback < 0) or sample.preferred:
        return reason  # an example is wanted for its vote, or for what people prefer, however it scored
    if config.min_quality_score is not None:
        if sample.quality is None:
            return DropReason.UNSCORED
        if sample.quality < config.min_quality_score:
            return DropReason.LOW_QUALITY
    return None


def _votes(sample: Sample, config: DataGeneratorConfig) -> DropReason | None:
    if FORMATS[config.format_type].needs_votes:
        return None if sample.feedback or sample.preferred else DropReason.NO_FEEDBACK
    wanted = config.min_user_feedback
    if sample.feedback is None:
        return None if wanted is None else DropReason.NO_FEEDBACK
    if wanted is None:
        return DropReason.NEGATIVE_FEEDBACK if sample.feedback < 0 else None
    if sample.feedback >= wanted:
        return None
    return DropReason.NEGATIVE_FEEDBACK if sample.feedback < 0 else DropReason.LOW_FEEDBACK
