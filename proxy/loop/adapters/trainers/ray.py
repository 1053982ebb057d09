"""Training on a Ray cluster, through the Ray Jobs REST API (`trainer.url` is the dashboard, port 8265).

The submission id is the run id, so that a second submission is the same job. The entrypoint is `trainer.command`, with
the placeholders of the command trainer. Data is shipped by path, where cluster and controller share a file system, or
uploaded to `options.data_url` (any fsspec URL); {data_path}, {holdout_path} and {result_path} then are URLs below it.

The job leaves its result at {result_path}, or prints it after RATCHET_RESULT on one line.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters.trainers.placeholders import fill, values_of
from proxy.loop.adapters.trainers.results import accept, from_log
from proxy.loop.adapters.webhook import Webhook
from proxy.loop.ports import Failed, Handle, Running, TrainingRun, TrainingStatus
from proxy.private import write_private

__all__ = ["RayTrainer"]

_NUMBERS = ("entrypoint_num_cpus", "entrypoint_num_gpus", "entrypoint_memory")
_TAIL = 1000
_TIMEOUT_S = 25.0  # the first submission waits until an agent has started on the head node


class RayTrainer:
    """Submits, follows and stops jobs; the job lives on the cluster."""

    kind = "ray"

    def __init__(self, config: TrainerConfig, tls: ssl.SSLContext | None = None) -> None:
        """`options`: data_url, runtime_env (JSON), entrypoint_num_cpus, entrypoint_num_gpus, entrypoint_memory.

        Raises ConfigError without a url or a command, and where `runtime_env` is no JSON object.
        """
        if not config.command:
            raise ConfigError("trainer.command is empty; on Ray it is the job's entrypoint")
        self._ray = Webhook("trainer.url", config.url, config.token_file, timeout_s=_TIMEOUT_S, tls=tls)
        self._command = config.command
        self._data_url = config.options.get("data_url", "").rstrip("/") or None
        self._resources = {name: float(config.options[name]) for name in _NUMBERS if name in config.options}
        try:
            self._runtime_env = json.loads(config.options.get("runtime_env", "{}"))
        except ValueError as error:
            raise ConfigError(f"trainer.options.runtime_env is not JSON: {error}") from error

    async def start(self, run: TrainingRun) -> Handle:
        """Ship the data and submit the job, unless the cluster knows it."""
        values = self._values(run)
        handle = {"kind": self.kind, "output_dir": values["output_dir"], "result_path": values["result_path"]}
        if await self.adopt(run.run_id, handle):
            return handle
        if self._data_url is not None:
            await self._upload(run, values)
        argv = [fill(part, values) for part in self._command]
        job = {
            "submission_id": run.run_id,
            "entrypoint": shlex.join(argv),
            "runtime_env": self._runtime_env,
            "metadata": {"ratchet_run_id": run.run_id},
            **self._resources,
        }
        answer = await self._ray.call("POST", "/api/jobs/", body=job)
        if not answer.good and "already exists" not in answer.excerpt():
            raise PermanentError(f"Ray refused run {run.run_id}: {answer.excerpt()}")
        return handle

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """Ask how it goes; at its end the log is fetched into train.log."""
        answer = await self._ray.call("GET", f"/api/jobs/{quote(run_id)}")
        if answer.status == 404:
            return Failed(reason=f"Ray does not know run {run_id}; the cluster was probably restarted")
        if not answer.good:
            raise PermanentError(f"Ray does not report the state of run {run_id}: {answer.excerpt()}")
        status, message = str(answer.fields.get("status", "")), str(answer.fields.get("message") or "")
        if status not in ("SUCCEEDED", "FAILED", "STOPPED"):
            return Running(message=message or status.lower(), quotes=bool(message))
        log = await self._log(run_id, handle)
        if status == "SUCCEEDED":
            result = await self._result(handle)
            return accept(from_log(log) if result is None else result, base=None)
        said = "was cancelled" if status == "STOPPED" else f"failed: {message.partition(chr(10))[0]}"
        return Failed(
            reason=f"the Ray job of run {run_id} {said}; the log ends:\n{log.strip()[-_TAIL:]}",
            kept=f"the Ray job of run {run_id} {said.partition(':')[0]}",
        )

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """Ask Ray to stop the job and its children."""
        answer = await self._ray.call("POST", f"/api/jobs/{quote(run_id)}/stop")
        if not answer.good and answer.status != 404:
            raise PermanentError(f"Ray did not stop run {run_id}: {answer.excerpt()}")

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """Whether the cluster knows the job."""
        return (await self._ray.call("GET", f"/api/jobs/{quote(run_id)}")).good

    def _values(self, run: TrainingRun) -> dict[str, str]:
        """Of the placeholders: paths as they are here, or below `data_url`."""
        values = values_of(run)
        if self._data_url is None:
            return values
        base = f"{self._data_url}/{run.run_id}"
        return values | {
            "data_path": f"{base}/data.jsonl",
            "holdout_path": f"{base}/holdout.jsonl" if run.holdout_path is not None else "",
            "result_path": f"{base}/result.json",
        }

    async def _upload(self, run: TrainingRun, values: dict[str, str]) -> None:
        files = [(run.data_path, values["data_path"])]
        if run.holdout_path is not None:
            files.append((run.holdout_path, values["holdout_path"]))
        try:
            await asyncio.to_thread(_copy, files)
        except OSError as error:
            raise TemporaryError(
                f"the data of {run.run_id} could not be uploaded to {self._data_url}: {error}"
            ) from error

    async def _log(self, run_id: str, handle: Handle) -> str:
        answer = await self._ray.call("GET", f"/api/jobs/{quote(run_id)}/logs")
        log = str(answer.fields.get("logs") or "")
        folder = Path(handle["output_dir"])
        if folder.is_dir():
            write_private(folder / "train.log", log.encode("utf-8", "replace"))
        return log

    async def _result(self, handle: Handle) -> Any:
        return await asyncio.to_thread(_read_json, handle["result_path"])


def _copy(files: list[tuple[Path, str]]) -> None:
    fsspec = _fsspec()
    for source, target in files:
        system, path = fsspec.core.url_to_fs(target)
        system.makedirs(system._parent(path), exist_ok=True)
        system.put_file(str(source), path)


def _read_json(url: str) -> Any:
    """The JSON at a path or fsspec URL; None where there is none."""
    try:
        if "://" not in url:
            return json.loads(Path(url).read_bytes())
        with _fsspec().open(url, "rb") as source:
            return json.load(source)
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise TemporaryError(f"{url} cannot be read: {error}") from error


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise PermanentError("trainer.options.data_url needs fsspec: pip install 'ratchet-proxy[archive]'") from error
    return fsspec
