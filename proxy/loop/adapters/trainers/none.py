"""No trainer: the loop prepares data and stops there."""

from __future__ import annotations

from proxy.errors import PermanentError
from proxy.loop.ports import Failed, Handle, TrainingRun, TrainingStatus

__all__ = ["NoTrainer"]

_REASON = 'trainer.kind is "none": data is prepared but no model is trained'


class NoTrainer:
    """Refuses politely, should it ever be asked."""

    kind = "none"

    async def start(self, run: TrainingRun) -> Handle:
        """Raises PermanentError."""
        raise PermanentError(_REASON)

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """A run of an earlier configuration has nobody to finish it."""
        return Failed(reason=_REASON)

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """Nothing to do."""

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """Never."""
        return False
