"""The table of a record's columns, and whether everything that has to know a column does."""

from __future__ import annotations

import random
import re
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import proxy.store.tables.migrate as migrate
from policies.records import Arm, Outcome, StickySource
from proxy.ids import RecordIds
from proxy.ingest import interpret
from proxy.store.archive.table import schema
from proxy.store.ingest.facts import flags_of
from proxy.store.tables.columns import (
    RECORD_COLUMNS,
    SHOWN,
    Enumerated,
    RecordColumn,
    values_of_row,
)
from proxy.store.tables.schema import records
from proxy.store.tables.values import NewRecord, RecordFlag, RecordRow
from proxy.web.documents import parse_filter, row_document
from proxy.wire.extract import dispatch
from proxy.wire.extract.model import TokenCounts
from tests.harness.exchanges import exchange, row_of
from tests.harness.pages import ROOT
from tests.harness.records_page import PAGE, replaced

_MIGRATIONS = "".join(path.read_text() for path in sorted((Path(migrate.__file__).parent / "migrations").rglob("*.py")))
_MADE_BY_THE_STORE = {"feedback", "judged"}
_BESIDE_COLUMNS = {
    NewRecord: {"id", "body", "scores", "aliases"},
    RecordRow: {"id", "created_us", "model_name", "query", "response_text"},
}


def lacks(column: RecordColumn) -> list[str]:
    """Where this column is not known, and has to be."""
    hints = {cls: get_type_hints(cls) for cls in (NewRecord, RecordRow)}
    found = [
        f"{cls.__name__} (proxy/store/tables/values.py) has no field {column.name}"
        for cls in (NewRecord, RecordRow)
        if column.name not in hints[cls] and not (cls is NewRecord and column.name in _MADE_BY_THE_STORE)
    ]
    if f'"{column.name}"' not in _MIGRATIONS:
        found.append(f"no migration (proxy/store/tables/migrations/versions) adds {column.name} to records")
    if column.shown_as is not None and not column.text:
        found.append(f"RECORD_COLUMNS has no text for {column.name}, which the reference shows")
    optional = {field.name for field in fields(NewRecord) if field.default is not MISSING}
    if not column.required and hints[NewRecord].get(column.name) and column.frame and column.name not in optional:
        found.append(f"NewRecord.{column.name} has no default, and a frame may lack it")
    return found


@pytest.mark.parametrize("column", RECORD_COLUMNS, ids=lambda column: column.name)
def test_a_column_is_known_everywhere(column: RecordColumn) -> None:
    assert "\n".join(lacks(column)) == ""


def test_what_is_missing_of_a_new_column_is_named() -> None:
    assert lacks(RecordColumn(name="moon_phase", type=sa.Text)) == [
        "NewRecord (proxy/store/tables/values.py) has no field moon_phase",
        "RecordRow (proxy/store/tables/values.py) has no field moon_phase",
        "no migration (proxy/store/tables/migrations/versions) adds moon_phase to records",
        "RECORD_COLUMNS has no text for moon_phase, which the reference shows",
    ]


@pytest.mark.parametrize("cls", [NewRecord, RecordRow])
def test_every_field_of_a_record_is_a_column(cls: type[Any]) -> None:
    known = {column.name for column in RECORD_COLUMNS} | _BESIDE_COLUMNS[cls]
    assert {field.name for field in fields(cls)} <= known, "RECORD_COLUMNS lacks them"


@pytest.mark.parametrize("module", [dispatch, interpret], ids=lambda module: module.__name__)
def test_every_count_of_a_model_is_taken_over(module: ModuleType) -> None:
    """By name, since copying them one by one is what costs a record least."""
    source = (ROOT / module.__name__.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    counts = [field.name for field in fields(TokenCounts)]
    assert [name for name in counts if not re.search(rf"\.{name} = \w+\.{name}\n", source)] == []
    assert set(counts) <= {column.name for column in RECORD_COLUMNS}


def test_the_page_of_the_reference_has_the_columns() -> None:
    """`make docs` writes it anew."""
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page) == page


def test_table_and_archive_have_the_columns() -> None:
    assert {column.name for column in records.c} == {column.name for column in RECORD_COLUMNS} | {"id", "body"}
    archived = {column.name for column in RECORD_COLUMNS if column.archive is not None}
    assert archived == {column.name for column in RECORD_COLUMNS} - {"flags", "tags"}, "flags are a column each"
    assert "record_tags" in schema().names, "the body has tags, too"
    assert archived <= set(schema().names)


class Row:
    """A row of `records` as the database gives it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._mapping = values
        self.status, self.flags = values["status"], values["flags"]


@given(
    arm=st.sampled_from(Arm), outcome=st.sampled_from(Outcome), source=st.sampled_from(StickySource),
    status=st.integers(0, 599), number=st.none() | st.integers(0, 2**31 - 1), seconds=st.none() | st.floats(0, 1),
)  # fmt: skip
def test_a_record_reads_as_it_was_inserted(
    arm: Arm, outcome: Outcome, source: StickySource, status: int, number: int | None, seconds: float | None
) -> None:
    free = {column.name: number for column in RECORD_COLUMNS if issubclass(type_of(column), sa.Integer) and
            not column.required}  # fmt: skip
    changed = free | {"arm": arm, "outcome": outcome, "key_source": source, "status": status, "quality": seconds}
    record = exchange(10**15, random.Random(1), **changed)
    row = row_of(record, body=7)
    assert row.keys() == {column.name for column in records.c}
    back = values_of_row(Row(row))
    assert back["outcome"] is outcome.with_status(status)
    assert back["flags"] == flags_of(record)
    assert back["feedback"] is back["judged"] is None
    for column in RECORD_COLUMNS:
        if column.name not in {"outcome", "flags", "feedback", "judged"}:
            assert back[column.name] == getattr(record, column.name), column.name


def type_of(column: RecordColumn) -> type:
    return column.type if isinstance(column.type, type) else type(column.type)


@pytest.mark.parametrize("column", [c for c in RECORD_COLUMNS if c.values], ids=lambda column: column.name)
@pytest.mark.parametrize("side", ["sql", "word"])
def test_an_enumerations_values_have_one_form_each(column: RecordColumn, side: str) -> None:
    kept = column.values
    assert isinstance(kept, Enumerated)
    kind = {"key_source": StickySource, "outcome": Outcome}.get(column.name, Arm)
    there, back = (kept.to_sql, kept.of_sql) if side == "sql" else (kept.word, kept.of_word)
    assert [back(there(member)) for member in kind] == list(kind)
    assert len({there(member) for member in kind}) == len(kind)


def test_a_frame_gives_the_columns_that_it_has_and_must_have() -> None:
    framed = {column.frame: column for column in RECORD_COLUMNS if column.frame is not None}
    meta = {key: position for position, key in enumerate(framed)}
    taken = _taken(meta)
    assert taken == {column.name: meta[key] for key, column in framed.items()}
    for key, column in framed.items():
        rest = {other: value for other, value in meta.items() if other != key}
        if column.required:
            with pytest.raises(KeyError, match=re.escape(key)):
                _taken(rest)
        else:
            assert _taken(rest) == taken | {column.name: None}


def _taken(meta: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that are copied from a frame."""
    record = NewRecord.__new__(NewRecord)
    interpret._copy_facts(record, meta)
    return {field.name: getattr(record, field.name) for field in fields(NewRecord) if hasattr(record, field.name)}


def test_json_shows_the_columns_in_order(tmp_path: Path) -> None:
    from tests.harness.install import Install

    install = Install(tmp_path)
    record = install.record()
    given_values = {
        column.name: getattr(record, column.name) for column in RECORD_COLUMNS if column.name not in _MADE_BY_THE_STORE
    }
    row = RecordRow(id=record.id, created_us=0, model_name="m", feedback=0.5, judged=None, **given_values)
    names = list(row_document(row, RecordIds(install.keys)))
    assert names[3:-2] == [name for name, _ in SHOWN]
    assert names[:3] == ["id", "record_id", "created_at"]


def test_columns_can_be_asked_for_by_an_exact_value(tmp_path: Path) -> None:
    from tests.harness.install import Install

    keys = Install(tmp_path).keys
    found = parse_filter({"method": "GET", "config_id": "3"}, keys, {}, 0.0)
    assert found.equal == {"method": "GET", "config_id": 3}
    with pytest.raises(ValueError, match=r"^config_id: "):
        parse_filter({"config_id": "three"}, keys, {}, 0.0)
    with pytest.raises(ValueError, match="no such filter"):
        parse_filter({"own_us": "3"}, keys, {}, 0.0)


def test_flags_are_kept_as_one_number() -> None:
    record = exchange(10**15, random.Random(1), flags=RecordFlag.STREAMED)
    assert row_of(record, RecordFlag.STREAMED | RecordFlag.SAMPLE)["flags"] == 66
