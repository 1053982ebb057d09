"""Training somewhere else, behind a webhook of three calls.

    POST   {url}            {"run_id", "data_path", "holdout_path", "output_dir", "champion", "timeout_s"}, with the
                            header Idempotency-Key: {run_id} → 2xx, or 409 when it is known already
    GET    {url}/{run_id}   → 200 {"status", "progress"?, "message"?, "result"?, "reason"?}, or 404
    DELETE {url}/{run_id}   → 2xx, or 404 when it is gone already

`status` is queued, running, succeeded, failed or cancelled; anything else counts as running. `result` is what a
training function returns: model_path and metrics.
"""

from __future__ import annotations

import ssl
from urllib.parse import quote

from proxy.config.loop import TrainerConfig
from proxy.errors import PermanentError
from proxy.loop.adapters.trainers.results import accept, fraction
from proxy.loop.adapters.webhook import ServiceReply, Webhook
from proxy.loop.ports import Failed, Handle, Running, TrainingRun, TrainingStatus

__all__ = ["HttpTrainer"]

_GONE = frozenset({404, 409, 410})


class HttpTrainer:
    """Talks to the webhook; the run lives there."""

    kind = "http"

    def __init__(self, config: TrainerConfig, tls: ssl.SSLContext | None = None) -> None:
        """Raises ConfigError without a url."""
        self._hook = Webhook("trainer.url", config.url, config.token_file, tls=tls)

    async def start(self, run: TrainingRun) -> Handle:
        """Hand the run over, once: the service knows it by its Idempotency-Key."""
        order = {
            "run_id": run.run_id,
            "data_path": str(run.data_path),
            "holdout_path": None if run.holdout_path is None else str(run.holdout_path),
            "output_dir": str(run.output_dir),
            "champion": run.champion,
            "timeout_s": run.timeout_s,
        }
        answer = await self._hook.call("POST", body=order, headers={"Idempotency-Key": run.run_id})
        if not answer.good and answer.status != 409:
            raise PermanentError(f"the training service refused run {run.run_id}: {answer.excerpt()}")
        return {"kind": self.kind, "url": self._hook.url}

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """Ask how it goes."""
        answer = await self._hook.call("GET", f"/{quote(run_id)}")
        if answer.status == 404:
            return Failed(reason=f"the training service does not know run {run_id}")
        if not answer.good:
            raise PermanentError(f"the training service does not report the state of run {run_id}: {answer.excerpt()}")
        return _status(answer)

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """Ask it to stop."""
        answer = await self._hook.call("DELETE", f"/{quote(run_id)}")
        if not answer.good and answer.status not in _GONE:
            raise PermanentError(f"the training service did not cancel run {run_id}: {answer.excerpt()}")

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """Whether the service knows the run."""
        return (await self._hook.call("GET", f"/{quote(run_id)}")).good


def _status(answer: ServiceReply) -> TrainingStatus:
    fields = answer.fields
    status = str(fields.get("status", "")).lower()
    message = str(fields.get("message") or "")
    if status == "succeeded":
        return accept(fields.get("result"), base=None)
    if status in ("failed", "cancelled"):
        said = f"the training service says: {status}{f', after {message}' if message else ''}"
        return Failed(reason=str(fields.get("reason") or said), kept=f"the training service says: {status}")
    return Running(progress=fraction(fields.get("progress")), message=message or status, quotes=bool(message))
