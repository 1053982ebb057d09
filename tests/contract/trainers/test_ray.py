"""The Ray trainer: uploads and resources on a small server, and the whole story on a real one-node Ray.

The latter needs `pip install 'ratchet-proxy[ray]'`, or RATCHET_RAY naming a `ray` executable of another environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.adapters.trainers.results import from_log
from proxy.loop.ports import Failed, Handle, Running, Succeeded, Trainer, TrainingRun, TrainingStatus
from tests.contract.trainers import training
from tests.contract.trainers.clusters import RayCluster
from tests.harness.require import need
from tests.harness.webserver import serving

PRINTS = 'import json, sys; print("epoch 1"); print("RATCHET_RESULT", json.dumps({"model_path": sys.argv[1]}))'


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    folder = tmp_path / "run-1"
    folder.mkdir()
    (folder / "data.jsonl").write_text('{"messages": []}\n')
    (folder / "behaviour").write_text("good")
    return TrainingRun(
        run_id="run-1",
        data_path=folder / "data.jsonl",
        holdout_path=None,
        output_dir=folder,
        champion="champion",
        timeout_s=60.0,
    )


async def final(trainer: Trainer, handle: Handle, run_id: str = "run-1") -> TrainingStatus:
    while isinstance(status := await trainer.poll(run_id, handle), Running):
        await asyncio.sleep(0.1)
    return status


async def test_a_result_may_be_printed(run: TrainingRun) -> None:
    ray = RayCluster()
    argv = (sys.executable, "-c", PRINTS, "s3://models/{run_id}")
    async with serving(ray.app) as url:
        trainer = build_trainer(TrainerConfig(kind="ray", url=url, command=argv))
        handle = await trainer.start(run)
        assert await final(trainer, handle) == Succeeded(result={"model_path": "s3://models/run-1"})
    assert (run.output_dir / "train.log").read_text().startswith("epoch 1\n")


async def test_data_is_uploaded_where_there_is_no_shared_folder(run: TrainingRun, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="uploads need the extra `archive`")
    holdout = run.output_dir / "holdout.jsonl"
    holdout.write_text('{"held": "out"}\n')
    bucket = tmp_path / "bucket"
    script = (
        "import json, sys; data, held, result = (name.removeprefix('file://') for name in sys.argv[1:]);"
        "json.dump({'model_path': 's3://m', 'data': open(data).read(), 'held': open(held).read()}, open(result, 'w'))"
    )
    argv = (sys.executable, "-c", script, "{data_path}", "{holdout_path}", "{result_path}")
    options = {"data_url": f"file://{bucket}/", "runtime_env": '{"pip": ["trl"]}', "entrypoint_num_gpus": "1"}
    ray = RayCluster()
    async with serving(ray.app) as url:
        trainer = build_trainer(TrainerConfig(kind="ray", url=url, command=argv, options=options))
        handle = await trainer.start(replace(run, holdout_path=holdout))
        status = await final(trainer, handle)
    assert isinstance(status, Succeeded), status
    assert status.result["data"] == run.data_path.read_text()
    assert status.result["held"] == holdout.read_text()
    assert ray.submitted[0]["runtime_env"] == {"pip": ["trl"]}
    assert ray.submitted[0]["entrypoint_num_gpus"] == 1.0
    assert (bucket / "run-1/data.jsonl").exists()


async def test_a_job_that_ray_refuses_is_given_up(run: TrainingRun) -> None:
    class Refusing(RayCluster):
        async def submit(self, request: object) -> object:  # type: ignore[override]
            from starlette.responses import PlainTextResponse

            return PlainTextResponse("ValueError: the runtime_env is invalid", 400)

    async with serving(Refusing().app) as url:
        trainer = build_trainer(TrainerConfig(kind="ray", url=url, command=("true",)))
        with pytest.raises(PermanentError, match="runtime_env is invalid"):
            await trainer.start(run)


@pytest.mark.parametrize(
    ("log", "result"),
    [
        ('RATCHET_RESULT {"a": 1}\nRATCHET_RESULT {"a": 2}\nbye', {"a": 2}),
        ('(train pid=1) RATCHET_RESULT {"a": 1}', {"a": 1}),
        ("RATCHET_RESULT {torn", None),
        ("nothing", None),
    ],
)
def test_the_last_printed_result_counts(log: str, result: object) -> None:
    assert from_log(log) == result


@pytest.mark.parametrize(
    "config",
    [
        TrainerConfig(kind="ray", url="http://ray"),
        TrainerConfig(kind="ray", command=("true",)),
        TrainerConfig(kind="ray", url="http://ray", command=("true",), options={"runtime_env": "{"}),
    ],
)
def test_settings_that_do_not_suffice_are_refused(config: TrainerConfig) -> None:
    with pytest.raises(ConfigError, match="trainer"):
        build_trainer(config)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real one-node Ray; its dashboard's URL."""
    ray = os.environ.get("RATCHET_RAY") or shutil.which(
        "ray", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    need("ray", ray is not None, extra=True)
    assert ray is not None
    ports = [_free_port() for _ in range(2)]
    arguments = [f"--port={ports[0]}", f"--dashboard-port={ports[1]}", "--dashboard-host=127.0.0.1"]
    limits = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    folder = Path("/tmp") / f"ray-{ports[0]}"  # its sockets' names must stay short
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RATCHET_")}
    command = [ray, "start", "--head", "--block", f"--temp-dir={folder}", *arguments, *limits]
    with (tmp_path_factory.mktemp("ray") / "head.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    yield f"http://127.0.0.1:{ports[1]}"
    head.terminate()
    head.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
async def test_the_whole_story_on_a_real_ray(cluster: str, run: TrainingRun) -> None:
    argv = (sys.executable, training.__file__, "{data_path}", "{output_dir}", "{run_id}", "{result_path}")
    environment = {"env_vars": {"PYTHONPATH": os.getcwd()}}
    config = TrainerConfig(kind="ray", url=cluster, command=argv, options={"runtime_env": json.dumps(environment)})
    trainer = build_trainer(config)
    handle = await _started(trainer, run)
    assert await build_trainer(config).start(run) == handle
    assert await build_trainer(config).adopt("run-1", handle)
    status = await final(trainer, handle)
    assert isinstance(status, Succeeded), status
    assert status.result["loss"] == 0.25
    assert len((run.output_dir / "starts").read_text().splitlines()) == 1

    (run.output_dir / "behaviour").write_text("raises")
    failing = replace(run, run_id="run-2")
    status = await final(trainer, await trainer.start(failing), "run-2")
    assert isinstance(status, Failed)
    assert "the loss is not a number" in status.reason

    (run.output_dir / "behaviour").write_text("slow")
    slow = replace(run, run_id="run-3")
    handle = await trainer.start(slow)
    await trainer.cancel("run-3", handle)
    status = await final(trainer, handle, "run-3")
    assert isinstance(status, Failed)
    assert "cancelled" in status.reason
    assert not await trainer.adopt("run-0", handle)


async def _started(trainer: Trainer, run: TrainingRun) -> Handle:
    """Start as the loop does: what cannot be done now is tried again, while the cluster comes up."""
    while True:
        try:
            return await trainer.start(run)
        except TemporaryError:
            await asyncio.sleep(1.0)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
