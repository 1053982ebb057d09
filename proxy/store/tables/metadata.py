"""What all tables share: the book that they are in, names of their keys and indices, how they lie on the disk."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

__all__ = ["BY_DAY", "NO_ROWID", "metadata"]

metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(column_0_label)s",
    }
)
BY_DAY: Final[dict[str, Any]] = {"sqlite_with_rowid": False, "postgresql_partition_by": "RANGE (id)"}
NO_ROWID: Final[dict[str, Any]] = {"sqlite_with_rowid": False}
