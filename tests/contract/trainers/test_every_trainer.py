"""What every trainer does, whatever trains: one suite, run on all kinds but openai, which has no place for a result."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, get_args, get_type_hints

import pytest

from proxy.config.loop import TrainerConfig
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.ports import Failed, Handle, Running, Succeeded, Trainer, TrainingRun, TrainingStatus
from tests.contract.trainers import training
from tests.contract.trainers.clusters import KubernetesApi, RayCluster, job_manifest
from tests.contract.trainers.service import TrainingService
from tests.harness.webserver import serving

TRAINING = (sys.executable, training.__file__, "{data_path}", "{output_dir}", "{run_id}", "{result_path}")
NewTrainer = Callable[[], Trainer]
KINDS: Final = [kind for kind in get_args(get_type_hints(TrainerConfig)["kind"]) if kind not in ("none", "openai")]


@pytest.fixture(params=KINDS)
async def new_trainer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewTrainer]:
    """Builds adapter objects of one kind; each is what a restarted controller would have."""
    grace = {"cancel_grace_seconds": "0.2"}
    if request.param == "callable":
        target = "tests.contract.trainers.training:train"
        yield lambda: build_trainer(TrainerConfig(kind="callable", callable=target, options=grace))
    elif request.param == "command":
        yield lambda: build_trainer(TrainerConfig(kind="command", command=TRAINING, options=grace))
    elif request.param == "ray":
        ray = RayCluster()
        async with serving(ray.app) as url:
            yield lambda: build_trainer(TrainerConfig(kind="ray", url=url, command=TRAINING))
            await ray.ended()
    elif request.param == "kubernetes":
        (tmp_path / "job.json").write_text(json.dumps(job_manifest(TRAINING)))
        options = {"manifest": str(tmp_path / "job.json"), "namespace": "ml"}
        kubernetes = KubernetesApi()
        async with serving(kubernetes.app) as url:
            yield lambda: build_trainer(TrainerConfig(kind="kubernetes", url=url, options=options))
            await kubernetes.ended()
    elif request.param == "http":
        service = TrainingService()
        async with serving(service.app) as url:
            yield lambda: build_trainer(TrainerConfig(kind="http", url=f"{url}/train"))
            await service.ended()
    else:
        pytest.fail(f"trainer.kind = {request.param}: say here how one is built for these tests")


@pytest.fixture
def order(tmp_path: Path) -> Callable[[str], TrainingRun]:
    """A run whose training behaves as told."""

    def make(behaviour: str) -> TrainingRun:
        folder = tmp_path / "run-1"
        folder.mkdir()
        (folder / "data.jsonl").write_text('{"messages": []}\n')
        (folder / "behaviour").write_text(behaviour)
        return TrainingRun(
            run_id="run-1",
            data_path=folder / "data.jsonl",
            holdout_path=None,
            output_dir=folder,
            champion="champion",
            timeout_s=60.0,
        )

    return make


async def status_when(
    trainer: Trainer, handle: Handle, done: Callable[[TrainingStatus], bool] = lambda status: False
) -> TrainingStatus:
    """The first status that is final or satisfies `done`."""
    while True:
        status = await trainer.poll("run-1", handle)
        if done(status) or not isinstance(status, Running):
            return status
        await asyncio.sleep(0.02)


async def under_way(run: TrainingRun) -> None:
    """Until the training itself has begun."""
    while not (run.output_dir / "starts").exists():
        await asyncio.sleep(0.02)


def starts(run: TrainingRun) -> int:
    """How often the training was really started."""
    return len((run.output_dir / "starts").read_text().splitlines())


async def test_a_training_that_ends_well(new_trainer: NewTrainer, order: Callable[[str], TrainingRun]) -> None:
    run, trainer = order("good"), new_trainer()
    handle = await trainer.start(run)
    status = await status_when(trainer, handle)
    assert isinstance(status, Succeeded), status
    assert status.result["loss"] == 0.25
    assert Path(status.result["model_path"]).read_text() == run.data_path.read_text()
    assert await trainer.poll("run-1", handle) == status, "asking again changes nothing"


async def test_a_run_is_trained_once_however_often_it_is_started(
    new_trainer: NewTrainer, order: Callable[[str], TrainingRun]
) -> None:
    run = order("slow")
    handles = await asyncio.gather(*(new_trainer().start(run) for _ in range(3)))
    assert handles[0] == handles[1] == handles[2]
    await under_way(run)
    assert await new_trainer().start(run) == handles[0]
    (run.output_dir / "go").touch()
    assert isinstance(await status_when(new_trainer(), handles[0]), Succeeded)
    assert await new_trainer().start(run) == handles[0], "a run that has ended is not started again"
    assert isinstance(await status_when(new_trainer(), handles[0]), Succeeded)
    assert starts(run) == 1


async def test_progress_is_visible(new_trainer: NewTrainer, order: Callable[[str], TrainingRun]) -> None:
    run, trainer = order("slow"), new_trainer()
    if trainer.kind in ("ray", "kubernetes"):
        pytest.skip("these know states, not progress")
    handle = await trainer.start(run)
    status = await status_when(
        trainer, handle, lambda status: isinstance(status, Running) and status.progress is not None
    )
    assert status == Running(progress=0.25, message="epoch 1 of 4")
    (run.output_dir / "go").touch()
    await status_when(trainer, handle)


async def test_a_restarted_controller_adopts_the_run(
    new_trainer: NewTrainer, order: Callable[[str], TrainingRun]
) -> None:
    run = order("slow")
    handle = await new_trainer().start(run)
    later = new_trainer()
    assert await later.adopt("run-1", handle)
    (run.output_dir / "go").touch()
    assert isinstance(await status_when(later, handle), Succeeded)
    assert await new_trainer().adopt("run-1", handle), "a run that has ended is found, too"


async def test_a_run_that_nobody_started_is_not_adopted(
    new_trainer: NewTrainer, order: Callable[[str], TrainingRun], tmp_path: Path
) -> None:
    handle = {"kind": "any", "name": "none", "output_dir": str(tmp_path / "nowhere")}
    assert not await new_trainer().adopt("run-0", handle)
    assert isinstance(await new_trainer().poll("run-0", handle), Failed)
    await new_trainer().cancel("run-0", handle)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [("raises", "the loss is not a number"), ("nothing", "return|result|wrote"), ("empty", "empty result")],
)
async def test_a_training_that_ends_badly_says_why(
    new_trainer: NewTrainer, order: Callable[[str], TrainingRun], behaviour: str, says: str
) -> None:
    trainer = new_trainer()
    handle = await trainer.start(order(behaviour))
    status = await status_when(trainer, handle)
    assert isinstance(status, Failed)
    assert any(word in status.reason for word in says.split("|")), status.reason


async def test_a_cancelled_run_ends_and_stays_ended(
    new_trainer: NewTrainer, order: Callable[[str], TrainingRun]
) -> None:
    run, trainer = order("slow"), new_trainer()
    handle = await trainer.start(run)
    await trainer.cancel("run-1", handle)
    status = await status_when(trainer, handle)
    assert isinstance(status, Failed)
    assert "cancelled" in status.reason
    await new_trainer().cancel("run-1", handle)
    assert await new_trainer().start(run) == handle
    assert isinstance(await status_when(trainer, handle), Failed)


async def test_cancelling_a_run_that_has_ended_changes_nothing(
    new_trainer: NewTrainer, order: Callable[[str], TrainingRun]
) -> None:
    trainer = new_trainer()
    handle = await trainer.start(order("good"))
    status = await status_when(trainer, handle)
    await trainer.cancel("run-1", handle)
    assert await trainer.poll("run-1", handle) == status
