"""The Kubernetes trainer, where its answers differ from the other trainers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def a_run(folder: Path) -> TrainingRun:
    return TrainingRun(
        run_id="run-1",
        data_path=folder / "data.jsonl",
        holdout_path=None,
        output_dir=folder,
        champion="champion",
        timeout_s=60.0,
    )


async def test_a_cluster_that_suspends_no_jobs_is_not_taken_to_have_cancelled(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(job_manifest(("sleep", "600"))))
    options = {"manifest": str(tmp_path / "job.json"), "namespace": "ml"}
    run = a_run(tmp_path)
    kubernetes = Old()
    async with serving(kubernetes.app) as url:
        trainer = build_trainer(TrainerConfig(kind="kubernetes", url=url, options=options))
        handle = await trainer.start(run)
        with pytest.raises(PermanentError, match=r"1\.22.*delete ratchet-run-1 of run run-1"):
            await trainer.cancel("run-1", handle)
        await kubernetes.ended()


@pytest.mark.parametrize("metadata", [None, {}, {"labels": None}, {"labels": {"team": "ml"}, "generateName": "train-"}])
async def test_a_template_with_nothing_below_its_metadata_is_filled_in(
    tmp_path: Path, metadata: dict[str, Any] | None
) -> None:
    """As `kubectl create --dry-run=client -o json` and YAML that was turned into JSON write it."""
    manifest = {**job_manifest(("true",)), "metadata": metadata}
    (tmp_path / "job.json").write_text(json.dumps(manifest))
    options = {"manifest": str(tmp_path / "job.json"), "namespace": "ml"}
    kubernetes = KubernetesApi()
    async with serving(kubernetes.app) as url:
        trainer = build_trainer(TrainerConfig(kind="kubernetes", url=url, options=options))
        assert (await trainer.start(a_run(tmp_path)))["name"] == "ratchet-run-1"
        await kubernetes.ended()
    assert list(kubernetes.jobs) == ["ratchet-run-1"]
