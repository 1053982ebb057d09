"""Two small real servers that speak the APIs of Ray Jobs and of Kubernetes Jobs, and really run what they are given.

They answer as the documentation of those APIs says (Ray: openapi.yml of the Jobs API 4.0.0; Kubernetes: batch/v1 Job,
core/v1 Pod and Status). They are neither Ray nor Kubernetes; `test_ray.py` runs on a real Ray where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


@dataclass
class Job:
    """A process and its output."""

    argv: list[str]
    process: asyncio.subprocess.Process | None = None
    log: str = ""
    stopped: bool = False
    spec: dict[str, Any] = field(default_factory=dict)

    async def run(self) -> None:
        """Run to the end."""
        self.process = await asyncio.create_subprocess_exec(
            *self.argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True
        )
        if self.stopped:
            self.stop()
        output, _ = await self.process.communicate()
        self.log = output.decode()

    def stop(self) -> None:
        """End it and its children."""
        self.stopped = True
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return None if self.process is None else self.process.returncode


class Cluster:
    """Jobs by name."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def launch(self, name: str, argv: list[str], spec: dict[str, Any] | None = None) -> None:
        """Run a job from now on."""
        self.jobs[name] = Job(argv, spec=spec or {})
        self._tasks.add(asyncio.get_running_loop().create_task(self.jobs[name].run()))

    async def ended(self) -> None:
        """Stop what still runs and wait for it."""
        for job in self.jobs.values():
            job.stop()
        await asyncio.gather(*self._tasks)


class RayCluster(Cluster):
    """The Ray Jobs API."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[dict[str, Any]] = []
        self.app = Starlette(
            routes=[
                Route("/api/jobs/", self.submit, methods=["POST"]),
                Route("/api/jobs/{name}", self.look),
                Route("/api/jobs/{name}/logs", self.logs),
                Route("/api/jobs/{name}/stop", self.stop, methods=["POST"]),
            ]
        )

    async def submit(self, request: Request) -> Response:
        order = await request.json()
        name = order["submission_id"]
        if name in self.jobs:
            return PlainTextResponse(f"Job with submission_id {name} already exists.", 400)
        self.submitted.append(order)
        self.launch(name, shlex.split(order["entrypoint"]))
        return JSONResponse({"job_id": name, "submission_id": name})

    async def look(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["name"])
        if job is None:
            return PlainTextResponse("Job does not exist", 404)
        status, message = "RUNNING", "Job is currently running."
        if job.code is not None:
            status = "STOPPED" if job.stopped else "SUCCEEDED" if job.code == 0 else "FAILED"
            message = f"Job entrypoint command ended with exit code {job.code}"
        return JSONResponse({"type": "SUBMISSION", "status": status, "message": message})

    async def logs(self, request: Request) -> Response:
        return JSONResponse({"logs": self.jobs[request.path_params["name"]].log})

    async def stop(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["name"])
        if job is None:
            return PlainTextResponse("Job does not exist", 404)
        running = job.code is None
        if running:
            job.stop()
        return JSONResponse({"stopped": running})


class KubernetesApi(Cluster):
    """The part of the API server that Jobs need, with one namespace; `entrypoint` is that of every image."""

    def __init__(self, namespace: str = "ml", entrypoint: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._entrypoint = [*entrypoint]
        jobs, pods = f"/apis/batch/v1/namespaces/{namespace}/jobs", f"/api/v1/namespaces/{namespace}/pods"
        self.app = Starlette(
            routes=[
                Route(jobs, self.create, methods=["POST"]),
                Route(f"{jobs}/{{name}}", self.look, methods=["GET"]),
                Route(f"{jobs}/{{name}}", self.patch, methods=["PATCH"]),
                Route(pods, self.pods),
                Route(f"{pods}/{{pod}}/log", self.log),
            ]
        )

    async def create(self, request: Request) -> Response:
        job = await request.json()
        name = job["metadata"]["name"]
        if name in self.jobs:
            return _status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        container = job["spec"]["template"]["spec"]["containers"][0]
        self.launch(name, container.get("command", self._entrypoint) + container.get("args", []), job)
        return JSONResponse(job, 201)

    async def look(self, request: Request) -> Response:
        name = request.path_params["name"]
        job = self.jobs.get(name)
        if job is None:
            return _status(404, "NotFound", f'jobs.batch "{name}" not found')
        status: dict[str, Any] = {"active": 1}
        if job.spec["spec"].get("suspend") and job.stopped:
            status = {"conditions": [{"type": "Suspended", "status": "True", "reason": "JobSuspended"}]}
        elif job.code == 0:
            status = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
        elif job.code is not None:
            failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
            status = {"failed": 1, "conditions": [failed]}
        return JSONResponse({**job.spec, "status": status})

    async def patch(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/merge-patch+json"
        job = self.jobs.get(request.path_params["name"])
        if job is None:
            return _status(404, "NotFound", "not found")
        job.spec["spec"].update((await request.json())["spec"])
        if job.code is None:
            job.stop()
        return JSONResponse(job.spec)

    async def pods(self, request: Request) -> Response:
        name = request.query_params["labelSelector"].removeprefix("job-name=")
        pods = [{"metadata": {"name": f"{name}-x7k2p", "creationTimestamp": "2025-01-01T00:00:00Z"}}]
        return JSONResponse({"kind": "PodList", "items": pods if name in self.jobs else []})

    async def log(self, request: Request) -> Response:
        name = request.path_params["pod"].removesuffix("-x7k2p")
        lines = self.jobs[name].log.splitlines()[-int(request.query_params["tailLines"]) :]
        return PlainTextResponse("\n".join(lines))


def job_manifest(command: tuple[str, ...]) -> dict[str, Any]:
    """A Job as `kubectl create job … -o json` writes it."""
    container = {"name": "train", "image": "registry/train:1", "command": list(command)}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "labels": {"team": "ml"}},
        "spec": {"backoffLimit": 0, "template": template},
    }


def _status(code: int, reason: str, message: str) -> Response:
    content = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}
    return JSONResponse(content, code)
