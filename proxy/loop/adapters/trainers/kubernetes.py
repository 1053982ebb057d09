"""Training as a Kubernetes Job, through the API server's own REST API (`trainer.url`, with a service account's token).

`options.manifest` is a file with a Job in JSON (`kubectl create job … --dry-run=client -o json`), in whose strings the
placeholders of the command trainer are filled in. The Job is named after the run, so a second creation is refused as
already existing. The Job gets the path of the data, on a volume that it shares with the controller.

The container leaves its result at {result_path} on that volume, or prints it after RATCHET_RESULT on one line.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError, PermanentError
from proxy.loop.adapters.trainers.placeholders import fill, values_of
from proxy.loop.adapters.trainers.results import accept, from_log, read_json
from proxy.loop.adapters.webhook import Webhook
from proxy.loop.ports import Failed, Handle, Running, TrainingRun, TrainingStatus
from proxy.private import write_private

__all__ = ["KubernetesTrainer"]

_TAIL_LINES = 200
_TAIL = 1000


class KubernetesTrainer:
    """Creates, follows and suspends Jobs; the training lives in the cluster."""

    kind = "kubernetes"

    def __init__(self, config: TrainerConfig, tls: ssl.SSLContext | None = None) -> None:
        """`options`: manifest (needed), namespace (default "default"), ca_file.

        Raises ConfigError without a url or a readable manifest of kind Job.
        """
        options = config.options
        self._api = Webhook("trainer.url", config.url, config.token_file, ca_file=options.get("ca_file"), tls=tls)
        self._namespace = options.get("namespace", "default")
        if "manifest" not in options:
            raise ConfigError("trainer.options.manifest is not set; set it to a file with a Kubernetes Job in JSON")
        self._manifest = read_json(Path(options["manifest"]).expanduser())
        if not isinstance(self._manifest, Mapping) or self._manifest.get("kind") != "Job":
            raise ConfigError(
                f"trainer.options.manifest: {options['manifest']} does not contain a Kubernetes Job in JSON"
            )

    async def start(self, run: TrainingRun) -> Handle:
        """Create the Job, or leave the one that exists."""
        name = _name(run.run_id)
        values = values_of(run)
        job = _filled(self._manifest, values)
        metadata = {**(job.get("metadata") or {})}  # a template with nothing below it says null
        labels = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "ratchet"}
        metadata.update(name=name, namespace=self._namespace, labels=labels)
        metadata.pop("generateName", None)
        job["metadata"] = metadata
        answer = await self._api.call("POST", self._jobs(), body=job)
        if not answer.good and answer.status != 409:
            raise PermanentError(f"Kubernetes refused the Job of run {run.run_id}: {answer.excerpt()}")
        return {
            "kind": self.kind,
            "name": name,
            "output_dir": values["output_dir"],
            "result_path": values["result_path"],
        }

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """Ask how it goes; at its end the log is fetched into train.log."""
        answer = await self._api.call("GET", self._jobs(handle["name"]))
        if answer.status == 404:
            return Failed(reason=f"Kubernetes has no Job {handle['name']} in namespace {self._namespace}")
        if not answer.good:
            raise PermanentError(f"Kubernetes does not report the state of run {run_id}: {answer.excerpt()}")
        status = answer.fields.get("status") or {}
        ended = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
        if "Complete" in ended:
            log = await self._log(handle)
            result = read_json(Path(handle["result_path"]))
            return accept(from_log(log) if result is None else result, base=None)
        if "Failed" in ended:
            log = await self._log(handle)
            why = ended["Failed"].get("message") or ended["Failed"].get("reason") or "no reason given"
            kept = f"the Job {handle['name']} failed: {why}"
            return Failed(reason=f"{kept}; the log ends:\n{log.strip()[-_TAIL:]}", kept=kept)
        if (answer.fields.get("spec") or {}).get("suspend"):
            return Failed(reason=f"the Job {handle['name']} was cancelled: it is suspended")
        return Running(message=f"{status.get('active', 0)} active, {status.get('failed', 0)} failed pods")

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """Suspend the Job, which ends its pods. It stays, so that the run is not started again."""
        patch = {"spec": {"suspend": True}}
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = await self._api.call("PATCH", self._jobs(handle["name"]), body=patch, headers=headers)
        if not answer.good and answer.status != 404:
            raise PermanentError(f"Kubernetes did not suspend the Job of run {run_id}: {answer.excerpt()}")
        if answer.good and not (answer.fields.get("spec") or {}).get("suspend"):  # a field that it does not know
            raise PermanentError(
                f"Kubernetes before 1.22 cannot suspend Jobs: delete {handle['name']} of run {run_id} by hand"
            )

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """Whether the Job is there."""
        return (await self._api.call("GET", self._jobs(handle["name"]))).good

    def _jobs(self, name: str = "") -> str:
        base = f"/apis/batch/v1/namespaces/{quote(self._namespace)}/jobs"
        return f"{base}/{quote(name)}" if name else base

    async def _log(self, handle: Handle) -> str:
        """The end of the newest pod's log, empty where there is none any more."""
        core = f"/api/v1/namespaces/{quote(self._namespace)}/pods"
        selector = quote(f"job-name={handle['name']}")
        pods = (await self._api.call("GET", f"{core}?labelSelector={selector}")).fields.get("items") or []
        if not pods:
            return ""
        newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        path = f"{core}/{quote(newest['metadata']['name'])}/log?tailLines={_TAIL_LINES}"
        answer = await self._api.call("GET", path)
        log = answer.content if isinstance(answer.content, str) else json.dumps(answer.content)
        if not answer.good:
            return ""
        folder = Path(handle["output_dir"])
        if folder.is_dir():
            write_private(folder / "train.log", log.encode("utf-8", "replace"))
        return log


def _name(run_id: str) -> str:
    """A DNS label; run ids are unique, and short enough to be left whole."""
    return f"ratchet-{re.sub(r'[^a-z0-9-]', '-', run_id.lower())}"[:63].rstrip("-")


def _filled(part: Any, values: Mapping[str, str]) -> Any:
    """A copy of the manifest with the placeholders in its strings filled in."""
    if isinstance(part, str):
        return fill(part, values)
    if isinstance(part, Mapping):
        return {key: _filled(item, values) for key, item in part.items()}
    if isinstance(part, list):
        return [_filled(item, values) for item in part]
    return part
