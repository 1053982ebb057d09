"""Between a row of the control plane and its value: the fields are the columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, TypeVar

import sqlalchemy as sa

from policies.rows import Check, CheckKind, Experiment, Model, ModelState, Run
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

Value = Check | CommandRow | ConfigVersion | Experiment | JournalEntry | Lease | Look | Model | Replica | Run
_T = TypeVar("_T", Check, CommandRow, ConfigVersion, Experiment, JournalEntry, Lease, Look, Model, Replica, Run)
_ENUMERATED: Mapping[type[Value], tuple[str, type[Enum]]] = {
    Check: ("kind", CheckKind),
    CommandRow: ("state", CommandState),
    JournalEntry: ("state", JournalState),
    Model: ("state", ModelState),
}
"""The field that is an enumeration; its value is what is kept."""


def to_row(value: Value) -> dict[str, Any]:
    """Columns of `value`."""
    row = {field.name: getattr(value, field.name) for field in fields(value)}
    if type(value) in _ENUMERATED:
        name, _ = _ENUMERATED[type(value)]
        row[name] = row[name].value
    return row


def to_value(kind: type[_T], row: sa.Row[Any]) -> _T:
    """The value in `row`, which has a column for every field of `kind`."""
    values = {field.name: row._mapping[field.name] for field in fields(kind)}
    if kind in _ENUMERATED:
        name, known = _ENUMERATED[kind]
        values[name] = known(values[name])
    return kind(**values)
