"""Many values reach the driver at once as each would by SQLAlchemy's own way."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.dialects.sqlite import aiosqlite

from proxy.store.engine.binding import binder
from proxy.store.tables.schema import aliases, bodies, feedback, records
from proxy.store.tables.types import Code, RecordId

COLUMNS = [column for table in (records, aliases, bodies, feedback) for column in table.columns]
TEXTS = st.text() | st.sampled_from(["POST", "chat", "a\0b", "\0"])
VALUES: dict[type[Any], st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(0, 2**31 - 1),
    float: st.floats(0, 1),
    bool: st.booleans(),
    bytes: st.binary(),
    object: st.dictionaries(st.text(max_size=3), st.text(max_size=3), min_size=1),
}


@pytest.mark.parametrize("dialect", [aiosqlite.dialect(), asyncpg.dialect()], ids=["sqlite", "postgresql"])
@given(data=st.data())
def test_each_column_binds_as_sqlalchemy_does(dialect: sa.Dialect, data: st.DataObject) -> None:
    column = data.draw(st.sampled_from(COLUMNS))
    if isinstance(column.type, RecordId):
        drawn: st.SearchStrategy[Any] = st.binary(min_size=16, max_size=16).map(bytes.hex)
    else:
        drawn = VALUES[getattr(column.type, "impl", column.type).python_type]
    if isinstance(column.type, Code):
        drawn |= st.sampled_from(column.type.known)
    values = data.draw(st.lists(st.none() | drawn, max_size=4))
    bind, one = binder(dialect, column), column.type.dialect_impl(dialect).bind_processor(dialect)
    expected = values if one is None else [one(value) for value in values]
    assert list(values if bind is None else bind(values)) == expected
