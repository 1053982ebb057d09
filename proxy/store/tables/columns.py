"""The columns of a record, each said once: where its value comes from, how it is kept, and what it is called outside.

From `RECORD_COLUMNS` follow the table and what is inserted, what a frame gives a record, the rows that are read again,
the JSON of API, export and command line, the filters by an exact value, the archive's columns and the page of the
reference. A column more is an entry here and a migration, a field of `NewRecord` and `RecordRow` (`values.py`, where a
test says which is missing), and the place that its value comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Column, Double, Integer, SmallInteger
from sqlalchemy.types import TypeEngine

from policies.behaviour import behaviour_words
from policies.records import Arm, Outcome, StickySource
from policies.signals import signal_words
from proxy.store.tables.types import Code
from proxy.store.tables.values import NewRecord, RecordFlag
from proxy.wire.extract.shapes import KINDS

__all__ = [
    "FRAMED",
    "KEY_SOURCES",
    "MAYBE_FRAMED",
    "RECORD_COLUMNS",
    "SHOWN",
    "Enumerated",
    "RecordColumn",
    "columns_to_insert",
    "values_of_row",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumerated:
    """How the values of an enumeration are kept in the database, and called everywhere else."""

    members: type[Enum]
    to_sql: Callable[[Any], int]
    of_sql: Callable[[int], Any]
    word: Callable[[Any], str]
    of_word: Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordColumn:
    """One column of `records`, which is a field of the same name of NewRecord and RecordRow."""

    name: str
    type: TypeEngine[Any] | type[TypeEngine[Any]]
    required: bool = False
    """Never null."""
    values: Enumerated | None = None
    """For an enumeration."""
    frame: str | None = None
    """The member of a frame that is this value, as it is; None: `proxy.ingest.interpret` works it out."""
    json: str | None = ""
    """Its name in JSON; "": as the column; None: not shown."""
    shows: str = ""
    """The field of RecordRow that is shown; "": as the column."""
    form: Callable[[Any], Any] | None = None
    """The value in JSON, of one that is not null, where it is another."""
    label: str | None = None
    """Title under which the console's page of a record lists it; None: the page has a place of its own for it."""
    filter: bool = False
    """Whether a list can be asked for the records with one value of it, by its name in JSON."""
    archive: str | None = None
    """Type in the archive, as pyarrow names it; None: it has no column there."""
    text: str = ""
    """What the reference says of it, as Markdown."""

    @property
    def shown_as(self) -> str | None:
        """Its name in JSON; None: not shown."""
        return self.json or (self.name if self.json is not None else None)

    def as_json(self, row: Any) -> Any:
        """Its value in JSON, from a RecordRow."""
        value = getattr(row, self.shows or self.name)
        if value is None:
            return None
        if self.values is not None:
            return self.values.word(value)
        return value if self.form is None else self.form(value)

    def of_text(self, text: str) -> str | int:
        """The value that a filter names. Raises ValueError for one that is none."""
        kind = self.type if isinstance(self.type, type) else type(self.type)
        return int(text) if issubclass(kind, Integer) else text

    def sql(self) -> Column[Any]:
        """For the table."""
        return Column(self.name, self.type, nullable=not self.required)


def _hexadecimal(hashed: int) -> str:
    """JavaScript has no 64-bit integers."""
    return f"{hashed & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def _milliseconds(microseconds: int) -> float:
    return microseconds / 1000


def _flag_words(flags: RecordFlag) -> list[str]:
    return [flag.name.lower() for flag in RecordFlag if flag in flags and flag.name]


KEY_SOURCES: Final = tuple(StickySource)
"""The column `key_source` holds the position in here; new sources are added at the end."""
_SOURCE_CODE: Final = {source: code for code, source in enumerate(KEY_SOURCES)}
_SOURCE: Final = Enumerated(
    members=StickySource,
    to_sql=_SOURCE_CODE.__getitem__,
    of_sql=KEY_SOURCES.__getitem__,
    word=lambda source: str(source.value),
    of_word=StickySource,
)
_ARM: Final = Enumerated(
    members=Arm,
    to_sql=int,
    of_sql=Arm,
    word=lambda arm: str(arm.label),
    of_word=lambda word: Arm[word.upper()],
)
_OUTCOME: Final = Enumerated(
    members=Outcome,
    to_sql=int,
    of_sql=Outcome,
    word=lambda outcome: str(outcome.label),
    of_word=lambda word: Outcome[word.upper()],
)

RECORD_COLUMNS: Final = (
    RecordColumn(name="user_hash", type=BigInteger, json="user", form=_hexadecimal, archive="int64",
        text="Keyed hash of the sticky key, reduced to the person where it is made of several ids, 16 hexadecimal "
             "digits; null where the key was random."),
    RecordColumn(name="conversation", type=BigInteger, form=_hexadecimal, archive="int64",
        text="Keyed hash of the conversation's id, 16 hexadecimal digits, where the client sent one."),
    RecordColumn(name="cluster", type=BigInteger, frame="cl", form=_hexadecimal, archive="int64",
        text="Keyed hash of the credential of the request, else of the network (/24, /64) it came from; what a record "
             "with the flag `claimed` says counts for it. See [users](../how-to/users.md)."),
    RecordColumn(name="key_source", type=SmallInteger, required=True, values=_SOURCE, archive="string",
        text="Where that key came from: `x-ratchet-user`, `header`, `cookie`, `body`, `conversation`, `first-message`, "
             "`random`. See [users](../how-to/users.md)."),
    RecordColumn(name="arm", type=SmallInteger, required=True, values=_ARM, archive="string",
        text="The side that the user was assigned to: `champion`, `challenger`, or `control` (who stays on the old "
             "champion while the new one is watched). Statistics go by this."),
    RecordColumn(name="served_by", type=SmallInteger, required=True, values=_ARM, archive="string",
        text="The side that answered; `champion` where it had to step in."),
    RecordColumn(name="model_id", type=Integer, required=True, frame="mid", json="model", shows="model_name",
        archive="int32",
        text="Name of the model that answered. `null` for the first seconds of an installation, before the loop's "
             "first look: that was the configured champion."),
    RecordColumn(name="experiment_id", type=Integer, frame="exp", archive="int32",
        text="The experiment that this counts in; null without one."),
    RecordColumn(name="epoch", type=Integer, required=True, frame="ep", archive="int32",
        text="The epoch of that experiment; 0 without one."),
    RecordColumn(name="config_id", type=Integer, required=True, frame="cfg", label="Settings, version", filter=True,
        archive="int32",
        text="The settings in force."),
    RecordColumn(name="kind", type=Code(*KINDS), required=True, label="Kind", archive="string",
        text="See [kinds](#kinds)."),
    RecordColumn(name="method", required=True, frame="m", filter=True, archive="string",
        type=Code("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"), text="As sent."),
    RecordColumn(name="status", type=SmallInteger, required=True, frame="st", archive="int16",
        text="As sent; 0 where the client left before one could be sent."),
    RecordColumn(name="outcome", type=SmallInteger, required=True, values=_OUTCOME, archive="string",
        text="Whether the user got an answer: see [outcomes](#outcomes)."),
    RecordColumn(name="duration_us", type=BigInteger, required=True, frame="dur", json="duration_ms",
        form=_milliseconds, archive="int64", text="From arrival to the last byte of the answer."),
    RecordColumn(name="upstream_us", type=BigInteger, required=True, frame="up", json="upstream_ms",
        form=_milliseconds, archive="int64", text="Of that, spent waiting for the model."),
    RecordColumn(name="ttfb_us", type=BigInteger, frame="ttfb", json="ttfb_ms", form=_milliseconds, archive="int64",
        text="Time to first byte: from arrival to the head of the answer."),
    RecordColumn(name="ttft_us", type=BigInteger, json="ttft_ms", form=_milliseconds, archive="int64",
        text="Time to first token: from arrival to the first event that carries content (text, reasoning or a call); "
             "of an answer that is not streamed, to the first byte of its body. Null where nothing was answered, and "
             "for streams of unknown shape."),
    RecordColumn(name="own_us", type=BigInteger, required=True, frame="own", json="own_ms", form=_milliseconds,
        archive="int64", text="Spent in the proxy itself."),
    RecordColumn(name="request_bytes", type=BigInteger, required=True, frame="rb", archive="int64",
        text="True size of the request's body, also where the copy is cut."),
    RecordColumn(name="response_bytes", type=BigInteger, required=True, frame="sb", archive="int64",
        text="True size of the answer's body, also where the copy is cut."),
    RecordColumn(name="prompt_tokens", type=Integer, archive="int32", text="As the model counted them."),
    RecordColumn(name="completion_tokens", type=Integer, archive="int32", text="As the model counted them."),
    RecordColumn(name="cache_read_tokens", type=Integer, archive="int32",
        text="Of the prompt tokens, those read from the provider's cache."),
    RecordColumn(name="cache_write_tokens", type=Integer, archive="int32",
        text="Of the prompt tokens, those put into the provider's cache."),
    RecordColumn(name="reasoning_tokens", type=Integer, archive="int32",
        text="Of the completion tokens, those of the reasoning."),
    RecordColumn(name="quality", type=Double, archive="double",
        text="Score from 0 to 1. Only an answer has one: outcome `ok` and status 2xx."),
    RecordColumn(name="quality_source", type=Code("heuristic", "pointer", "feedback", "judge"), archive="string",
        text="Who gave that score: `pointer` or `feedback` (the application, people), else `heuristic`, which is the "
             "[format check](../how-to/quality.md)."),
    RecordColumn(name="judged", type=Double, archive="double",
        text="The [judge](../how-to/quality.md)'s score from 0 to 1; null where it was not asked, or could not say. It "
             "never becomes the score that counts."),
    RecordColumn(name="answer_chars", type=Integer, archive="int32",
        text="Characters of the answer's text; null where there is no answer, or its text is not known."),
    RecordColumn(name="behaviour", type=SmallInteger, form=behaviour_words, archive="int16",
        text="How the answer behaves: `declined`, `malformed` (a tool call that nobody could run, or no JSON where "
             "JSON was asked for), `truncated`, `other_language` (than its question's). Null where nobody looked."),
    RecordColumn(name="signals", type=SmallInteger, form=signal_words, archive="int16",
        text="What the user has shown without voting: `regenerated`, `rephrased`, `retried`, `abandoned`. Null outside "
             "of tests, where nobody looks. See [signals](../how-to/signals.md)."),
    RecordColumn(name="prompt_key", type=BigInteger, json=None, archive="int64"),
    RecordColumn(name="answers_key", type=BigInteger, json=None, archive="int64"),
    RecordColumn(name="thread_key", type=BigInteger, json=None, archive="int64"),
    RecordColumn(name="tags", type=JSON(none_as_null=True), form=dict,
        text="What `capture.tag_headers` and `capture.tag_fields` found, by name; null without any."),
    RecordColumn(name="feedback", type=Double, archive="double", text="Mean of the effective votes, −1 to 1."),
    RecordColumn(name="flags", type=SmallInteger, required=True, form=_flag_words, text="See [flags](#flags)."),
)  # fmt: skip
"""In the order of the JSON. Beside them stand the key, which is the time, and where the body is."""

SHOWN: Final = tuple((column.shown_as, column) for column in RECORD_COLUMNS if column.shown_as is not None)
"""The columns that are shown, with their names in JSON."""

_LATER_FROM_STORE: Final = frozenset({"feedback", "flags", "judged"})
"""Votes and the judge make the ones; SAMPLE is added to the flags when the record comes in."""
_PLAIN: Final = ("id", *(column.name for column in RECORD_COLUMNS
                         if column.values is None and column.name not in _LATER_FROM_STORE))  # fmt: skip
_take: Final = attrgetter(*_PLAIN)
_CODED: Final = tuple(
    (column.name, attrgetter(f"{column.name}._value_"), {member.value: column.values.to_sql(member)
     for member in column.values.members})
    for column in RECORD_COLUMNS if column.values is not None
)  # fmt: skip
"""Name, what reads the member's value, and the integer of each value: by the members themselves it takes three times as
long, for their hash and `value` are functions in Python."""
_flag_value: Final = attrgetter("_value_")
_READ: Final = tuple((column.name, column.values.of_sql) for column in RECORD_COLUMNS if column.values is not None)
FRAMED: Final = tuple(
    (column.name, column.frame) for column in RECORD_COLUMNS if column.frame is not None and column.required
)
"""The fields of NewRecord that stand in a frame as they are, and their names there."""
MAYBE_FRAMED: Final = tuple(
    (column.name, column.frame) for column in RECORD_COLUMNS if column.frame is not None and not column.required
)
"""The same of those that a frame may lack."""


def columns_to_insert(
    records: Sequence[NewRecord], flags: Sequence[RecordFlag], bodies: Sequence[int | None]
) -> dict[str, Sequence[Any]]:
    """The values of the columns of `records`, for these records; `bodies` says where the body of each is, `flags` what
    the store makes of its own. Column by column, which takes a third of what a dictionary per record does."""
    if not records:
        return {}
    columns: dict[str, Sequence[Any]] = dict(zip(_PLAIN, zip(*map(_take, records), strict=True), strict=True))
    for name, value_of, codes in _CODED:
        columns[name] = [codes[value] for value in map(value_of, records)]
    columns["flags"] = list(map(_flag_value, flags))
    columns["feedback"] = columns["judged"] = [None] * len(records)
    columns["body"] = bodies
    return columns


def values_of_row(row: Any) -> dict[str, Any]:
    """The fields of RecordRow that are columns, from a row of `records` (with whatever else that holds)."""
    values = dict(row._mapping)
    del values["body"]
    for name, of_sql in _READ:
        values[name] = of_sql(values[name])
    values["outcome"] = values["outcome"].with_status(row.status)
    values["flags"] = RecordFlag(row.flags)
    return values
