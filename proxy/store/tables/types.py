"""Column types whose form on disk differs from the value in the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["BigKey", "Code", "RecordId", "Words"]

Binds = Callable[[Sequence[Any]], Sequence[Any]]
"""As `proxy.store.engine.binding` asks for it."""


class RecordId(TypeDecorator[str]):
    """32 hex digits in the program; 16 bytes on SQLite, `uuid` on PostgreSQL. Both sort by time."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's own type."""
        return sa.Uuid(as_uuid=True) if dialect.name == "postgresql" else sa.LargeBinary(16)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Hex to the driver's form; asyncpg reads hex by itself, and faster than Python makes a UUID of it."""
        return value if value is None or dialect.name == "postgresql" else bytes.fromhex(value)

    def binds(self, dialect: Dialect) -> Binds | None:
        """The same for many; as arrays, for of bytes Python's driver asks first whether they are to be adapted."""
        if dialect.name == "postgresql":
            return None
        return lambda values: [None if value is None else bytearray.fromhex(value) for value in values]

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """The database's form to hex."""
        if value is None:
            return None
        return str(value.hex) if dialect.name == "postgresql" else value.hex()


class Words(TypeDecorator[str]):
    """Text from outside. NUL, which PostgreSQL cannot store, is left out."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Without NUL."""
        return value.replace("\x00", "") if value is not None else None

    def binds(self, dialect: Dialect) -> Binds:
        """The same for many."""
        return lambda values: [
            value if value is None or "\x00" not in value else value.replace("\x00", "") for value in values
        ]


class Code(TypeDecorator[str]):
    """A word that is nearly always one of a known few: those are kept as one control character, any other as it is.

    The known words' order is what is on disk; new ones are added at the end.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, *known: str) -> None:
        super().__init__()
        self.known = known
        self._codes = {word: chr(1 + position) for position, word in enumerate(known)}
        self._words = {code: word for word, code in self._codes.items()}

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The code of a known word."""
        return self._codes.get(value, value.replace("\x00", "")) if value is not None else None

    def binds(self, dialect: Dialect) -> Binds:
        """The same for many."""
        code = self._codes.get
        return lambda values: [value if value is None else code(value) or value.replace("\x00", "") for value in values]

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The word of a code."""
        return self._words.get(value, value) if value is not None else None


BigKey = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""A counted 64-bit key; SQLite only counts in INTEGER."""
