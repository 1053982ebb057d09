"""Fine-tuning at an OpenAI-compatible API (`trainer.url` is its base, https://api.openai.com/v1 by default).

The files go to `POST /files`, the job to `POST /fine_tuning/jobs`. The API has no idempotency key, so the job carries
the run id in its metadata, and the list of jobs is searched for it before one is made. A job is refused, or fails
later, where its files are not `processed` yet: they are asked for until they are. That may take longer than a step of
the loop should, so the ids of what was uploaded are kept in the run's folder, and the next attempt asks on.

Formats: chatml, prompt_completion and dpo, rewritten as the API wants them (see `openai_lines`). The
result names the fine-tuned model, for the static deployer: {"model_path": "openai://ft:…", "model": "ft:…"}.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters.trainers.openai_lines import REFUSED, method_of, rewrite
from proxy.loop.adapters.trainers.results import read_json
from proxy.loop.adapters.webhook import ServiceReply, Webhook
from proxy.loop.ports import Failed, Handle, Running, Succeeded, TrainingRun, TrainingStatus
from proxy.private import replace_private

__all__ = ["OpenAITrainer"]

_log = logging.getLogger(__name__)
_UPLOAD_S = 300.0
_PAGE = 100
_PAGES = 10
_RUN_KEY = "ratchet_run_id"
_UPLOADS = "openai-uploads.json"
"""In the run's folder: {"data.jsonl": {"id", "status", "waited_s", "of": which state of the file}}."""
_ASK_S = 0.5
_PATIENCE_S = 20.0
"""One attempt waits so long for a file; the next one goes on."""
_LONGEST_S = 3600.0
_UNTOLD = frozenset({404, 405, 501})
"""Answers of services that take files and do not tell what becomes of them."""


class OpenAITrainer:
    """Uploads, starts, follows and cancels; the job lives at the provider."""

    kind = "openai"

    def __init__(self, config: TrainerConfig, tls: ssl.SSLContext | None = None) -> None:
        """`options`: model (what to fine-tune; needed), suffix, n_epochs, url (where the result is served).

        Raises ConfigError without a model.
        """
        self._model = config.options.get("model")
        if not self._model:
            raise ConfigError("trainer.options.model is not set; set it to the model to fine-tune")
        self._api = Webhook("trainer.url", config.url or "https://api.openai.com/v1", config.token_file, tls=tls)
        self._files = Webhook("trainer.url", self._api.url, config.token_file, timeout_s=_UPLOAD_S, tls=tls)
        self._options = config.options

    async def start(self, run: TrainingRun) -> Handle:
        """Upload and create the job, unless the provider has one of this run."""
        job = await self._find(run.run_id)
        if job is None:
            method = await asyncio.to_thread(method_of, run.data_path)
            data = await self._upload(run, run.data_path)
            if data is None:
                raise PermanentError(f"OpenAI takes no line of {run.data_path}: {REFUSED}")
            order: dict[str, Any] = {
                "model": self._model,
                "training_file": data,
                "metadata": {_RUN_KEY: run.run_id},
                "method": self._method(method),
            }
            validation = None if run.holdout_path is None else await self._upload(run, run.holdout_path)
            if validation is not None:
                order["validation_file"] = validation
            for path in (run.data_path, run.holdout_path):
                if path is not None:
                    await self._until_processed(run, path)
            if "suffix" in self._options:
                order["suffix"] = self._options["suffix"]
            job = _good(
                await self._api.call("POST", "/fine_tuning/jobs", body=order), "did not start a fine-tuning job"
            )
        return {"kind": self.kind, "job_id": str(job["id"])}

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """Ask how it goes."""
        answer = await self._api.call("GET", self._job(handle))
        if answer.status == 404:
            return Failed(reason=f"the provider does not know fine-tuning job {handle['job_id']} of run {run_id}")
        job = _good(answer, f"does not report the state of run {run_id}")
        status = str(job.get("status", ""))
        if status == "succeeded" and job.get("fine_tuned_model"):
            return Succeeded(result=self._result(job))
        if status in ("failed", "cancelled", "succeeded"):
            error = job.get("error") or {}
            detail = (
                error.get("message") or f"fine-tuning job {handle['job_id']} of run {run_id} {status} without a model"
            )
            code = f" ({error['code']})" if error.get("code") else ""
            kept = f"fine-tuning job {handle['job_id']} of run {run_id} {status}{code}"
            return Failed(reason=str(detail) if status == "failed" else f"{status}: {detail}", kept=kept)
        return Running(message=status.replace("_", " "))

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """Ask the provider to stop. A job that has ended, which it refuses to cancel with a 400, stays ended."""
        answer = await self._api.call("POST", f"{self._job(handle)}/cancel")
        if not answer.good and answer.status not in (400, 404):
            raise PermanentError(f"the provider did not cancel run {run_id}: {answer.excerpt()}")

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """Whether the provider knows the job."""
        return (await self._api.call("GET", self._job(handle))).good

    def _job(self, handle: Handle) -> str:
        return f"/fine_tuning/jobs/{quote(str(handle.get('job_id', 'none')))}"

    def _method(self, method: str) -> dict[str, Any]:
        epochs = self._options.get("n_epochs")
        hyperparameters = {} if epochs is None else {"hyperparameters": {"n_epochs": int(epochs)}}
        return {"type": method, method: hyperparameters}

    def _result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        model = str(job["fine_tuned_model"])
        result = {"model_path": f"openai://{model}", "model": model, "job_id": job["id"]}
        if job.get("trained_tokens") is not None:
            result["trained_tokens"] = job["trained_tokens"]
        if "url" in self._options:
            result["url"] = self._options["url"]
        return result

    async def _find(self, run_id: str) -> Mapping[str, Any] | None:
        """The job that carries this run's id, among the newest thousand."""
        after = ""
        for _ in range(_PAGES):
            page = _good(
                await self._api.call("GET", f"/fine_tuning/jobs?limit={_PAGE}{after}"), "does not list its jobs"
            )
            jobs = page.get("data") or []
            for job in jobs:
                if (job.get("metadata") or {}).get(_RUN_KEY) == run_id:
                    return dict(job)
            if not page.get("has_more") or not jobs:
                return None
            after = f"&after={quote(str(jobs[-1]['id']))}"
        return None

    async def _upload(self, run: TrainingRun, path: Path) -> str | None:
        """The provider's id of the file, of this attempt or an earlier one; None where none of its lines can be taught
        there."""
        earlier = _uploads(run).get(path.name)
        if earlier is not None and earlier["of"] == _state_of(run, path):
            return str(earlier["id"])
        source = run.output_dir / f"openai-{path.name}"
        try:
            kept, refused = await asyncio.to_thread(rewrite, path, source)
            if refused:
                _log.warning("%d of %d lines of %s are left out: %s", refused, kept + refused, path, REFUSED)
            if not kept:
                return None
            with source.open("rb") as data:
                form = aiohttp.FormData({"purpose": "fine-tune"})
                form.add_field("file", data, filename=f"{run.run_id}-{path.name}", content_type="application/jsonl")
                answer = await self._files.send("POST", "/files", data=form, headers={})
            file = _good(answer, f"did not take {source.name}")
            told = {"id": str(file["id"]), "status": file.get("status"), "waited_s": 0.0, "of": _state_of(run, path)}
            _remember(run, path, told)
        except OSError as error:
            raise TemporaryError(f"{path} cannot be rewritten to {source}: {error}") from error
        return str(file["id"])

    async def _until_processed(self, run: TrainingRun, path: Path) -> None:
        """Raises TemporaryError while the provider has not looked through the file, PermanentError where it refuses it
        or needs too long."""
        upload = _uploads(run).get(path.name)
        if upload is None or upload.get("status") == "processed":
            return
        clock = asyncio.get_running_loop().time
        began, told = clock(), str(upload["id"])
        while clock() - began < _PATIENCE_S:
            answer = await self._api.call("GET", f"/files/{quote(told)}")
            if answer.status in _UNTOLD:
                return
            file = _good(answer, f"does not report the state of file {told} of {run.run_id}")
            status = file.get("status")
            if status in ("error", "failed", "deleted"):
                _remember(run, path, None)
                detail = file.get("status_details") or "it gives no reason"
                raise PermanentError(f"the provider refused file {told} ({path.name} of {run.run_id}): {detail}")
            if status is None or status == "processed":
                _remember(run, path, {**upload, "status": "processed"})
                return
            await asyncio.sleep(_ASK_S)
        waited_s = float(upload["waited_s"]) + clock() - began
        if waited_s > _LONGEST_S:
            raise PermanentError(
                f"the provider has not processed file {told} ({path.name} of {run.run_id}) in an hour: it is {status}"
            )
        _remember(run, path, {**upload, "waited_s": waited_s})
        raise TemporaryError(f"file {told} ({path.name} of {run.run_id}) is not processed yet: it is {status}")


def _uploads(run: TrainingRun) -> dict[str, Any]:
    """What was uploaded of this run before."""
    content = read_json(run.output_dir / _UPLOADS)
    known = content.items() if isinstance(content, dict) else ()
    return {name: told for name, told in known if isinstance(told, dict) and {"id", "of", "waited_s"} <= told.keys()}


def _state_of(run: TrainingRun, path: Path) -> list[Any]:
    """Changes when the file does: a user's lines may have been taken out of it since it was uploaded."""
    found = path.stat()
    return [run.run_id, found.st_mtime_ns, found.st_size]


def _remember(run: TrainingRun, path: Path, upload: Mapping[str, Any] | None) -> None:
    uploads: dict[str, Any] = {name: told for name, told in _uploads(run).items() if name != path.name}
    try:
        replace_private(
            run.output_dir / _UPLOADS, json.dumps(uploads | ({} if upload is None else {path.name: upload}))
        )
    except OSError as error:
        raise TemporaryError(f"{run.output_dir / _UPLOADS} cannot be written: {error}") from error


def _good(answer: ServiceReply, what: str) -> Mapping[str, Any]:
    if not answer.good:
        raise PermanentError(f"the provider {what}: {answer.excerpt()}")
    return answer.fields
