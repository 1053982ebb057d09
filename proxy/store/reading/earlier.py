"""The exchange that another goes on from, found by the id that its provider gave to the answer.

Who reads a conversation that the provider keeps (`previous_response_id`) looks here for its earlier parts. A name alone
proves little, for clients name requests too: whoever asks compares the answer's own id, and the user.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from policies.records import Outcome, Sample, StickySource
from proxy.store.reading.as_samples import SAMPLE_COLUMNS, sample_of_row
from proxy.store.tables.columns import KEY_SOURCES
from proxy.store.tables.values import BodyPayload, RecordFlag

__all__ = ["EARLIER_COLUMNS", "MOST_NAMESAKES", "Earlier", "earlier_of_row", "names_user"]

MOST_NAMESAKES: Final = 4
"""Records a name that are looked at, newest first."""
EARLIER_COLUMNS: Final = (*SAMPLE_COLUMNS, "key_source")
_NOT_WHOLE: Final = int(RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE | RecordFlag.UNREAD)
_NAMING: Final = frozenset({StickySource.RATCHET_HEADER, StickySource.HEADER, StickySource.COOKIE, StickySource.BODY})
"""Where a key is a user, and not what stands in for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An exchange that may be what another goes on from."""

    sample: Sample
    """Not `trainable` where the request asked not to be trained on. No votes."""
    names_user: bool
    """Whether its key is a user; else two keys of one user may differ."""
    whole: bool
    """An answer, and all of it is at hand."""


def earlier_of_row(row: Any, body: BodyPayload) -> Earlier:
    """From a row with EARLIER_COLUMNS, and its model's `name`."""
    well = Outcome(row.outcome).with_status(row.status) is Outcome.OK and 200 <= row.status < 300
    return Earlier(
        sample=replace(sample_of_row(row, body, None), trainable=not row.flags & RecordFlag.NO_TRAIN),
        names_user=names_user(row.key_source),
        whole=well and not row.flags & _NOT_WHOLE,
    )


def names_user(key_source: int) -> bool:
    """Whether a key from there (the column `key_source`) is a user."""
    return KEY_SOURCES[key_source] in _NAMING
