"""What of the traffic a collector of telemetry gets, and how long one that does not answer is left alone.

A record is drawn when a hash of its id is below the share: every process says the same of it, also after a restart.
What failed is sent whatever was drawn, for it is what somebody looks for; a share of failures among spans is therefore
no failure rate (the metrics have that).
"""

from __future__ import annotations

from typing import Final

from policies.assignment import unit_interval

__all__ = ["is_sent", "pause_s"]

_SALT: Final = b"telemetry"
_FIRST_S: Final = 1.0
_LONGEST_S: Final = 60.0
_LONGEST_ASKED_S: Final = 600.0


def is_sent(record_id: str, share: float, *, failed: bool) -> bool:
    """Whether the record with this id (hex) is sent by itself; `share` is of all records, 0 to 1."""
    return failed or unit_interval(_SALT, bytes.fromhex(record_id)) < share


def pause_s(failures: int, asked_s: float | None = None) -> float:
    """Seconds to wait after so many failures in a row (1 or more): twice as long each time, a minute at most. Where the
    receiver has asked for a time (`Retry-After`), that one, ten minutes at most."""
    if asked_s is not None:
        return min(max(asked_s, _FIRST_S), _LONGEST_ASKED_S)
    return min(_FIRST_S * 2.0 ** min(failures - 1, 10), _LONGEST_S)
