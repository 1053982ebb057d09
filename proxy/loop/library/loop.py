"""The learning loop as a library: the quick start's names and results, on the engine that the proxy runs.

No HTTP and no processes: the application logs its own calls, asks `choose_model` whom to send a user to, and calls
`run_iteration` (or `run_loop`) with its training function. Two processes on one database take turns by the lease.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from policies.records import Arm
from proxy.clock import Clock, SystemClock
from proxy.config.loop import LoopConfig
from proxy.errors import TemporaryError
from proxy.loop.library.usage import UsageLogger, settled

if TYPE_CHECKING:
    from proxy.loop.library.engine import Engine
    from proxy.loop.library.inline import Job, TrainFunction
    from proxy.loop.library.usage_store import UsageStore

__all__ = ["ContinuousLearningLoop", "ModelChoice"]

_MAX_TICKS: Final = 100
_WAIT_S: Final = 0.05
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


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
        self._engine_made: Engine | None = None
        self._told: str | None = None
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
        engine = self._engine
        return self.logger.background.run(lambda usage: engine.choose(usage, user))

    # ------------------------------------------------------------------------------------------ iterations

    def run_iteration(self, train_fn: TrainFunction | None = None) -> dict[str, Any]:
        """Check everything once and do what is due; `train_fn(data_path)` runs in this thread. Without one, data is
        prepared and that is all.

        Returns {"timestamp": ISO text, "retrain_triggered": bool,
        "retrain": {"status": completed | failed | data_prepared | too_few_samples, "trigger", "run_id", "data_path",
        "samples", "model", "model_path", "metrics", "reason"} | None,
        "ab_test_update": {"verdict", "reasons"} | None, "ab_comparison": policies.experiment.Assessment as JSON | None,
        "challenger_deployed": name | None, "champion_promoted": name | None, "rolled_back": reason | None,
        "events": [names], "leader": whether this process may act,
        "hint": what the application may have forgotten (`choose_model`, while a challenger waits) | None}.
        """
        return self._iteration(train_fn, _MAX_TICKS)

    def _iteration(self, train_fn: TrainFunction | None, limit: int) -> dict[str, Any]:
        from proxy.loop.library.iteration import iteration_result

        engine = self._engine
        with self._turn("run_iteration"), self.logger.background.kept_open(_AT_WORK):
            engine.trainer.begin(train_fn)
            trains = train_fn is not None
            future = self.logger.background.submit(
                settled(lambda usage: engine.iterate(usage, trains=trains, limit=limit))
            )
            ticks, hint = self._serve_jobs(future)
            self._last_check = self._clock.now()
            result = iteration_result(ticks, self._last_check) | {"hint": hint}
            if result["retrain"] is not None and result["retrain"]["status"] == "failed":
                if engine.trainer.failure is not None:
                    result["retrain"]["reason"] = engine.trainer.failure
                self._errors = [*self._errors[-19:], result["retrain"]["reason"]]
            self._tell(hint)
            return result

    def _tell(self, hint: str | None) -> None:
        """Once for each thing that the application may have forgotten."""
        if hint is not None and self._told is None:
            _log.warning("%s", hint)
        self._told = hint

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
        """Retrain now, whatever the triggers say (`no_train`: only prepare the data); as `run_iteration`, with
        "command": {"id", "state": pending | done | refused, "detail"}. It is pending where another process runs the
        loop, which takes the command with its next iteration."""
        self._refuse_after_fork("trigger")
        self._refuse_in_training("trigger")
        command_id = self.command("trigger", {"no_train": no_train}, who=who, why=why)
        # Only the command itself: what else is due may want to train.
        result = self._iteration(None, 1) if no_train else self._iteration(train_fn, _MAX_TICKS)
        return result | {"command": self.command_state(command_id)}

    def command_state(self, command_id: int) -> dict[str, Any]:
        """What became of a command: {"id", "state": pending | done | refused, "detail"}. Raises LookupError."""

        async def get(usage: UsageStore) -> dict[str, Any]:
            row = await usage.store.commands.get(command_id)
            if row is None:
                raise LookupError(f"command {command_id}: there is no such command")
            return {"id": row.id, "state": row.state.value, "detail": row.detail}

        return self.logger.background.run(get)

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
        from policies.state import LoopTotals
        from proxy.loop.codec import to_json
        from proxy.loop.library.iteration import iso

        status, hint = self.logger.background.run(settled(self._engine.status))
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
        from proxy.loop.look.explain import explain

        return self.logger.background.run(settled(lambda usage: explain(usage.store, at)))

    def history(self, limit: int = 50) -> list[dict[str, Any]]:
        """What was decided and done, newest first."""
        from proxy.loop.look.explain import history

        return self.logger.background.run(settled(lambda usage: history(usage.store, limit)))

    # ------------------------------------------------------------------------------------------- engine

    @property
    def _engine(self) -> Engine:
        """Made with the first call that needs it: what stands behind it takes long to import."""
        if self._engine_made is None:
            from proxy.loop.library.engine import Engine

            self._engine_made = Engine(self.config, self._clock)
        return self._engine_made

    def _serve_jobs(self, future: Future[_T]) -> _T:
        """Run what the trainer asks for in this thread until the iteration has ended."""
        jobs = self._engine.trainer.jobs
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
