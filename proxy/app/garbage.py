"""What the garbage collector looks at.

Nearly everything here is freed without it, as soon as nobody uses it; it is for what refers to itself. Its passes stop
whatever the process does, and a full one looks at all that was ever imported: 10 to 30 ms.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["leave_batches", "leave_loaded"]

_YOUNG_OBJECTS: Final = 50_000


def leave_loaded() -> None:
    """Have it look no more at what has been loaded by now, for that stays anyway."""
    gc.collect()
    gc.freeze()


def leave_batches() -> None:
    """Have it look less often, too: a batch of records makes tens of thousands of objects and frees them all. With
    Python's own settings it spent a tenth of ingest's time on looking through them, and through all modules."""
    leave_loaded()
    gc.set_threshold(_YOUNG_OBJECTS)
