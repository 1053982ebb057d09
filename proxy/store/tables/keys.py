"""Record ids as instants: a UUIDv7 begins with its Unix milliseconds, so a range of time is a range of ids."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

__all__ = [
    "BLOCK_RECORDS",
    "DAY_US",
    "HOUR_US",
    "NO_ID",
    "SHORT_NAME",
    "alias_hash",
    "block_floor",
    "block_key",
    "day_of",
    "id_floor",
    "id_of_block",
    "id_time_us",
    "is_record_id",
    "is_short",
    "names_hash",
    "random_user_key",
    "task_alias_hash",
    "within",
]

HOUR_US: Final = 3_600_000_000
SHORT_NAME: Final = 8
"""An alias of fewer characters may be a number that begins anew in each conversation: see `is_short`."""
_SHORT_BITS: Final = 48
_SHORT: Final = 0x7FFF
"""How the hash of a short alias begins, and that of one long one in 65,536, which is then held to be short."""
NO_ID: Final = "0" * 32
"""Before every id."""
DAY_US: Final = 24 * HOUR_US
BLOCK_RECORDS: Final = 64
_PLACE_BITS: Final = 6
_BLOCK_BITS: Final = 15 + _PLACE_BITS
_LAST_MS: Final = (1 << 63 - _BLOCK_BITS) - 1  # in the year 2109
_HEX: Final = frozenset("0123456789abcdef")


def id_time_us(record_id: str) -> int:
    """When the id was minted, Unix microseconds (of millisecond resolution)."""
    return int(record_id[:12], 16) * 1000


def id_floor(at_us: int) -> str:
    """The smallest id of the millisecond that `at_us` falls into, as 32 hex digits."""
    return f"{max(0, at_us) // 1000:012x}{0:020x}"


def block_key(record_id: str) -> int:
    """Key of a block of bodies that begins with this record: milliseconds, 15 random bits of the id's tail, six zeros.

    The zeros leave room for a body's place in the block: key + place is what the record keeps.
    """
    return block_floor(record_id) | (int(record_id[-4:], 16) & 0x7FFF) << _PLACE_BITS


def block_floor(record_id: str) -> int:
    """The smallest key of a block that begins in the id's millisecond."""
    return (int(record_id[:12], 16) & _LAST_MS) << _BLOCK_BITS


def id_of_block(key: int) -> str:
    """The smallest id of the millisecond in which the block begins."""
    return id_floor((key >> _BLOCK_BITS) * 1000)


def day_of(record_id: str) -> int:
    """Days from the Unix epoch to the id's instant (UTC)."""
    return id_time_us(record_id) // DAY_US


def is_record_id(text: str) -> bool:
    """Whether `text` is 32 lower-case hex digits, as are the ids of records, and of traces."""
    return len(text) == 32 and _HEX.issuperset(text)


def alias_hash(alias: str) -> int:
    """Signed 64 bits under which an alias is found."""
    hashed = _signed64(_plain(alias))
    return hashed if len(alias) >= SHORT_NAME else hashed & (1 << _SHORT_BITS) - 1 | _SHORT << _SHORT_BITS


def is_short(hashed: int) -> bool:
    """Whether an alias with this hash is so short that answers of several conversations may have it."""
    return hashed >> _SHORT_BITS == _SHORT


def task_alias_hash(alias: str) -> int:
    """The same for an alias of a task: another one, so that no vote by that name goes to a task."""
    return _signed64(b"task\0" + _plain(alias))


def names_hash(hashes: Sequence[int]) -> int:
    """The same for several names of one record, of which some may be unknown: by it votes with this very list wait."""
    return _signed64(b"names\0" + b",".join(b"%d" % hashed for hashed in hashes))


def within(key: int, cluster: int) -> int:
    """What a claimed name calls `key`, as a key of its own: another for every cluster."""
    return _signed64(b"%d in %d" % (key, cluster))


def random_user_key(record_id: str) -> int:
    """The statistics' user of a request without a sticky key: itself."""
    return _signed64(bytes.fromhex(record_id))


def _plain(alias: str) -> bytes:
    """MLflow calls a trace `tr-` and its id in OpenTelemetry: one name, so that no record needs a row for both."""
    if alias.startswith("tr-") and is_record_id(alias[3:]):
        alias = alias[3:]
    return alias.encode("utf-8", "surrogatepass")


def _signed64(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big", signed=True)
