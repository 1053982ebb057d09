"""The learning loop as a library: the quick start's names and results, on the engine that the proxy runs.

No HTTP and no processes: the application logs its own calls, asks `choose_model` whom to send a user to, and calls
`run_iteration` (or `run_loop`) with its training function. Two processes on one database take turns by the lease.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from policies import wording
from policies.assignment import assign, is_held_back
from policies.records import Arm
from policies.state import LoopTotals
from proxy.clock import Clock, SystemClock
from proxy.config import LoopConfig
from proxy.config.load import fingerprint, public_document
from proxy.errors import TemporaryError
from proxy.loop.act.install import BaseModel
from proxy.loop.act.leadership import Leadership
from proxy.loop.adapters.gate import NoGate
from proxy.loop.adapters.notify import NoNotifier
from proxy.loop.build import LoopPorts, assemble, rules_of
from proxy.loop.codec import to_json
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.library.inline import AppDeployer, AppProbe, InlineTrainer, Job, TrainFunction
from proxy.loop.library.iteration import iso, iteration_result
from proxy.loop.library.usage import UsageLogger, UsageStore
from proxy.loop.look.explain import explain, history
from proxy.loop.tick import Loop, Tick
from proxy.private import make_folder
from proxy.status import Status
from proxy.store.tables.values import RecordFilter
from proxy.wire.person import person_key

__all__ = ["ContinuousLearningLoop", "ModelChoice"]

_MAX_TICKS: Final = 100
_WAIT_S: Final = 0.05
_UNASKED_S: Final = 900.0
"""So long a test may go without one call of the challenger before the status asks about `choose_model`."""


class _TrainingUnderWayError(RuntimeError, TemporaryError):
    """Temporary for whoever can wait for the training to end; `train_fn` itself cannot."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was called while train_fn was running and would wait for it forever;"
            " call it after train_fn has returned"
        )


_AT_WORK: Final = "close was called while run_iteration was running in this process; call it after that has returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model should answer a user."""

    name: str
    """Log the call with this as `model`."""
    path: str | None
    """What training returned as `model_path`; None for the model that the application began with."""
    arm: Arm


class ContinuousLearningLoop:
    """Logs usage, decides when to retrain, calls the training function, tests, promotes or rolls back."""

    def __init__(self, config: LoopConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or LoopConfig()
        self.logger = UsageLogger(self.config.db_path, clock=clock)
        self._clock = clock or SystemClock()
        self._training_dir = Path(self.config.output_dir).expanduser().absolute()
        self._trainer = InlineTrainer(self._training_dir)
        self._leadership: Leadership | None = None
        self._loops: dict[bool, Loop] = {}
        self._usage: UsageStore | None = None
        self._one_at_a_time = threading.Lock()
        self._pid: int | None = None
        self._before_training: frozenset[threading.Thread] | None = None
        """The threads that were there when the training began that is under way; None while none is."""
        self._stop = threading.Event()
        self._running = False
        self._last_check: float | None = None
        self._errors: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._forked_from() is None:
            self.close()
        else:
            self.logger.close()  # what this process opened; the loop is its parent's

    def close(self) -> None:
        """Stop, and close the database. Safe to repeat.

        Raises RuntimeError inside `train_fn`, from another thread while it runs, and in a forked process.
        """
        self._refuse_after_fork("close")
        if self._before_training is not None:
            raise _TrainingUnderWayError("close")
        with self._turn("close"):
            self.stop()
            self.logger.close()

    def _forked_from(self) -> int | None:
        """The process in which this loop was used before, if that is another one."""
        used_in = self._pid or self.logger.background.first_opened_in
        return used_in if used_in not in (None, os.getpid()) else None

    def _refuse_after_fork(self, what: str) -> None:
        if (parent := self._forked_from()) is not None:
            raise RuntimeError(
                f"{what} was called in a process forked from {parent}, which already uses this loop;"
                " create a new ContinuousLearningLoop after the fork"
            )

    @contextmanager
    def _turn(self, what: str) -> Iterator[None]:
        """One iteration at a time. Raises RuntimeError where waiting for that would never end."""
        self._refuse_after_fork(what)
        self._pid = os.getpid()
        while not self._one_at_a_time.acquire(timeout=_WAIT_S):
            self._refuse_in_training(what)
        try:
            yield
        finally:
            self._one_at_a_time.release()

    def _refuse_in_training(self, what: str) -> None:
        """Whether train_fn waits for this thread: it is train_fn's own, or one that has begun since."""
        before = self._before_training
        if before is not None and threading.current_thread() not in before:
            raise _TrainingUnderWayError(what)

    # ------------------------------------------------------------------------------------------- usage

    def log_usage(self, query: str, response: str, model: str, **details: Any) -> str:
        """Log one call; returns its record id. See `UsageLogger.log` for the details."""
        return self.logger.log(query, response, model, **details)

    def record_feedback(self, record_id: str, feedback: int, feedback_text: str | None = None, **details: Any) -> bool:
        """Attach a thumb: 1, 0 or −1. False where there is no such record."""
        return self.logger.record_feedback(record_id, feedback, feedback_text, **details)

    def choose_model(self, user: str | None = None) -> ModelChoice:
        """Whom to send this user's query to: always the same model within an experiment; at random without a user."""
        return self.logger.background.run(lambda usage: self._choose(usage, user))

    async def _choose(self, usage: UsageStore, user: str | None) -> ModelChoice:
        table = await usage.routes()
        if table is None or usage.position is None:
            return ModelChoice(name=self.config.champion_name, path=None, arm=Arm.CHAMPION)
        challenger, champion, previous = usage.position.challenger, usage.position.champion, usage.position.previous
        name = usage.ids.new_uuid(self._clock.now()) if user is None else str(usage.keys.user_hash(person_key(user)))
        salt, key = bytes.fromhex(table.salt), name.encode()
        if table.challenger is not None and challenger is not None:
            arm = assign(salt, key, table.share)
            if arm is Arm.CHALLENGER:
                return ModelChoice(name=challenger.name, path=challenger.path, arm=arm)
        if table.control is not None and previous is not None and is_held_back(salt, key, table.control_share):
            return ModelChoice(name=previous.name, path=previous.path, arm=Arm.CONTROL)
        return ModelChoice(name=champion.name, path=champion.path, arm=Arm.CHAMPION)

    # ------------------------------------------------------------------------------------------ iterations

    def run_iteration(self, train_fn: TrainFunction | None = None) -> dict[str, Any]:
        """Check everything once and do what is due; `train_fn(data_path)` runs in this thread. Without one, data is
        prepared and that is all.

        Returns {"timestamp": ISO text, "retrain_triggered": bool,
        "retrain": {"status": completed | failed | data_prepared | too_few_samples, "trigger", "run_id", "data_path",
        "samples", "model", "model_path", "metrics", "reason"} | None,
        "ab_test_update": {"verdict", "reasons"} | None, "ab_comparison": policies.experiment.Assessment as JSON | None,
        "challenger_deployed": name | None, "champion_promoted": name | None, "rolled_back": reason | None,
        "events": [names], "leader": whether this process may act}.
        """
        return self._iteration(train_fn, _MAX_TICKS)

    def _iteration(self, train_fn: TrainFunction | None, limit: int) -> dict[str, Any]:
        with self._turn("run_iteration"), self.logger.background.kept_open(_AT_WORK):
            self._trainer.begin(train_fn)
            trains = train_fn is not None
            future = self.logger.background.submit(lambda usage: self._iterate(usage, trains=trains, limit=limit))
            ticks = self._serve_jobs(future)
            self._last_check = self._clock.now()
            result = iteration_result(ticks, self._last_check)
            if result["retrain"] is not None and result["retrain"]["status"] == "failed":
                if self._trainer.failure is not None:
                    result["retrain"]["reason"] = self._trainer.failure
                self._errors = [*self._errors[-19:], result["retrain"]["reason"]]
            return result

    def run_loop(self, train_fn: TrainFunction | None = None, max_iterations: int | None = None) -> int:
        """`run_iteration` every `check_interval_seconds`, until `stop` or `max_iterations`; returns how many ran."""
        self._refuse_after_fork("run_loop")
        self._refuse_in_training("run_loop")
        self._stop.clear()
        self._running, done = True, 0
        try:
            while not self._stop.is_set():
                try:
                    self.run_iteration(train_fn)
                except TemporaryError as exc:
                    self._errors = [*self._errors[-19:], str(exc)]
                done += 1
                if max_iterations is not None and done >= max_iterations:
                    break
                self._stop.wait(self.config.check_interval_seconds)
        finally:
            self._running = False
        return done

    def stop(self) -> None:
        """End `run_loop` after the iteration under way. May be called from any thread."""
        self._stop.set()

    def trigger(self, train_fn: TrainFunction | None = None, *, no_train: bool = False, who: str = "library",
                why: str = "") -> dict[str, Any]:  # fmt: skip
        """Retrain now, whatever the triggers say (`no_train`: only prepare the data); as `run_iteration`."""
        self._refuse_after_fork("trigger")
        self._refuse_in_training("trigger")
        self.command("trigger", {"no_train": no_train}, who=who, why=why)
        # Only the order itself: what else is due may want to train.
        return self._iteration(None, 1) if no_train else self._iteration(train_fn, _MAX_TICKS)

    def command(self, verb: str, args: Mapping[str, Any] | None = None, *, who: str = "library", why: str = "") -> int:
        """Leave a command (promote, rollback, pause, resume, cancel, share, deploy) for the next iteration: its id."""

        async def submit(usage: UsageStore) -> int:
            return (await usage.store.commands.submit(verb, who=who, why=why, args=args)).id

        return self.logger.background.run(submit)

    # -------------------------------------------------------------------------------------------- status

    def get_status_summary(self) -> dict[str, Any]:
        """{"status": {"running", "phase", "reason", "paused", "last_check", "last_retrain" (ISO text | None),
        "total_retrains", "total_promotions", "champion_model", "champion_path", "challenger_model", "challenger_path",
        "errors"},
        "usage_stats": see `UsageLogger.get_statistics`, "ab_test": {"share", "assessment", …} | None,
        "triggers": progress of each, "next": {"action", "reasons", …}}."""
        status, hint = self.logger.background.run(self._status)
        phase, totals, challenger = status.phase, status.totals or LoopTotals(), status.challenger
        return {
            "status": {
                "running": self._running,
                "phase": phase.name,
                "reason": phase.reason,
                "hint": hint,
                "paused": phase.paused,
                "last_check": iso(self._last_check),
                "last_retrain": iso(status.last_retrain_at),
                "total_retrains": totals.retrains,
                "total_promotions": totals.promotions,
                "champion_model": status.champion.name if status.champion else self.config.champion_name,
                "champion_path": status.champion.path if status.champion else None,
                "challenger_model": None if challenger is None else challenger.name,
                "challenger_path": None if challenger is None else challenger.path,
                "errors": list(self._errors),
            },
            "usage_stats": self.logger.get_statistics(),
            "ab_test": to_json(status.experiment),
            "triggers": to_json(status.triggers.progress if status.triggers else ()),
            "next": to_json(status.next),
        }

    def explain(self, at: float | None = None) -> dict[str, Any]:
        """The decision in force at `at` (Unix seconds; None: the latest), with its inputs and reasons."""
        return self.logger.background.run(lambda usage: explain(usage.store, at))

    def history(self, limit: int = 50) -> list[dict[str, Any]]:
        """What was decided and done, newest first."""
        return self.logger.background.run(lambda usage: history(usage.store, limit))

    async def _status(self, usage: UsageStore) -> tuple[Status, str | None]:
        loop = await self._loop(usage, trains=True)
        await loop.look()
        status = await loop.status()
        return status, await self._hint(usage, status)

    async def _hint(self, usage: UsageStore, status: Status) -> str | None:
        """Of a test without users."""
        experiment, challenger = status.experiment, status.challenger
        if experiment is None or challenger is None:
            return None
        since_s = self._clock.now() - (experiment.epoch_started_at or experiment.started_at)
        asked = RecordFilter(arm=Arm.CHALLENGER, experiment_id=experiment.id)
        if since_s < _UNASKED_S or (await usage.store.records.list(asked, cursor=None, limit=1)).rows:
            return None
        return (
            f"no call of the challenger {challenger.name} was logged since its test began"
            f" {wording.duration(since_s / 3600)} ago: call choose_model(user) before each call, and log"
            " the call with the model name that it returns"
        )

    # ------------------------------------------------------------------------------------------- engine

    async def _iterate(self, usage: UsageStore, *, trains: bool, limit: int) -> list[Tick]:
        """Tick until nothing is left to do now, or `limit` times."""
        loop, ticks = await self._loop(usage, trains=trains), []
        try:
            for _ in range(limit):
                tick = await loop.tick()
                ticks.append(tick)
                if tick.plan is None or tick.plan.action is None or not tick.leader:
                    break
            await loop.finish()
        finally:
            usage.table_at = float("-inf")
            if self._leadership is not None:
                await self._leadership.release()
        return ticks

    async def _loop(self, usage: UsageStore, *, trains: bool) -> Loop:
        if self._usage is not usage:  # opened again: after a close, or in a forked process
            self._usage, self._leadership = usage, Leadership(usage.store)
            self._loops = {}
            models_dir = Path(self.config.models_dir).expanduser()
            make_folder(models_dir)
        if trains not in self._loops:
            mark = fingerprint(self.config)
            version = await usage.store.configs.add(mark, public_document(self.config))
            self._loops[trains] = assemble(
                store=usage.store,
                clock=self._clock,
                rules=rules_of(self.config, trains=trains),
                ports=LoopPorts(
                    datasets=StoreDatasetBuilder(usage.store.samples, self.config.generator_config, self._training_dir),
                    trainer=self._trainer,
                    deployer=AppDeployer(),
                    gate=NoGate(),
                    probe=AppProbe(),
                    notifier=NoNotifier(),
                ),
                base=BaseModel(name=self.config.champion_name, url=""),
                training_dir=self._training_dir,
                routes_path=None,
                selection=self.config.generator_config,
                drain_s=0.0,
                config_id=version.id,
                fingerprint=mark,
                leadership=self._leadership,
            )
        return self._loops[trains]

    def _serve_jobs(self, future: Future[list[Tick]]) -> list[Tick]:
        """Run what the trainer asks for in this thread until the iteration has ended."""
        jobs = self._trainer.jobs
        future.add_done_callback(lambda _: jobs.put(None))
        pid = os.getpid()
        try:
            while (job := jobs.get()) is not None:
                self._train(job)
                if os.getpid() != pid:
                    raise RuntimeError(
                        "train_fn returned in a process that it forked; end such a process with os._exit"
                    )
        except BaseException:
            while os.getpid() == pid and (job := jobs.get()) is not None:
                job.skip()  # the iteration ends by itself, without the interrupted training
            raise
        return future.result()

    def _train(self, job: Job) -> None:
        """Meanwhile this thread, and those that train_fn starts, are refused what would wait for it."""
        self._before_training = frozenset(threading.enumerate()) - {threading.current_thread()}
        try:
            job.run()
        finally:
            self._before_training = None
