"""The Kubernetes trainer, where its answers differ from the other trainers'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from proxy.config.loop import TrainerConfig
from proxy.errors import PermanentError
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.ports import TrainingRun
from tests.contract.trainers.clusters import KubernetesApi, job_manifest
from tests.harness.webserver import serving


class Old(KubernetesApi):
    """As before 1.22: a field that it does not know is left out."""

    async def patch(self, request: Request) -> Response:
        return JSONResponse(self.jobs[request.path_params["name"]].spec)


async def test_a_cluster_that_suspends_no_jobs_is_not_taken_to_have_cancelled(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(job_manifest(("sleep", "600"))))
    options = {"manifest": str(tmp_path / "job.json"), "namespace": "ml"}
    run = TrainingRun(
        run_id="run-1",
        data_path=tmp_path / "data.jsonl",
        holdout_path=None,
        output_dir=tmp_path,
        champion="champion",
        timeout_s=60.0,
    )
    kubernetes = Old()
    async with serving(kubernetes.app) as url:
        trainer = build_trainer(TrainerConfig(kind="kubernetes", url=url, options=options))
        handle = await trainer.start(run)
        with pytest.raises(PermanentError, match=r"1\.22.*delete ratchet-run-1 of run run-1"):
            await trainer.cancel("run-1", handle)
        await kubernetes.ended()
