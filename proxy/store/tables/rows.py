"""Between a row of the control plane and its value: the fields are the columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, TypeVar

import sqlalchemy as sa

from policies.rows import Experiment, Model, ModelState, Run
from proxy.store.tables.control import (
    CommandRow,
    CommandState,
    ConfigVersion,
    JournalEntry,
    JournalState,
    Lease,
    Look,
    Replica,
)

__all__ = ["to_row", "to_value"]

Value = CommandRow | ConfigVersion | Experiment | JournalEntry | Lease | Look | Model | Replica | Run
_T = TypeVar("_T", CommandRow, ConfigVersion, Experiment, JournalEntry, Lease, Look, Model, Replica, Run)
_STATES: Mapping[type[Value], type[Enum]] = {CommandRow: CommandState, JournalEntry: JournalState, Model: ModelState}


def to_row(value: Value) -> dict[str, Any]:
    """Columns of `value`."""
    row = {field.name: getattr(value, field.name) for field in fields(value)}
    if type(value) in _STATES:
        row["state"] = row["state"].value
    return row


def to_value(kind: type[_T], row: sa.Row[Any]) -> _T:
    """The value in `row`, which has a column for every field of `kind`."""
    values = {field.name: row._mapping[field.name] for field in fields(kind)}
    if kind in _STATES:
        values["state"] = _STATES[kind](values["state"])
    return kind(**values)
