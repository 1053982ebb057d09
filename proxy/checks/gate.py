"""Checks as the loop sees them: ask how far one is, and it is under way.

Each check is a task of the leading controller. What it needs to go on with is in the store, so whoever leads next goes
on with it; a task that ends with an error begins again at a later look.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.agreement import counts_as_judge
from policies.rewrite import Rewrite, RewriteError
from policies.rows import Check, CheckKind, Model
from policies.snapshot import CheckView
from proxy.checks.golden import GoldenFile, golden_of
from proxy.checks.ledger import StoreLedger
from proxy.checks.plan import CheckPlan
from proxy.checks.ports import AskedModel
from proxy.checks.prompts import Prompts, recorded
from proxy.checks.runner import Runner
from proxy.checks.shadow import ShadowChecks, why_interrupted
from proxy.checks.tally import most_asked
from proxy.checks.weighing import Weigher
from proxy.clock import Clock
from proxy.config import Config
from proxy.config.authorities import trusting
from proxy.credentials import CHAMPION, UnknownCredentialError
from proxy.errors import ConfigError, TemporaryError
from proxy.judge.build import make_judge
from proxy.judge.ports import Judge
from proxy.store.store import Store
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["CredentialHeader", "ReplayGate", "endpoint_of", "weigher_of"]

CredentialHeader = Callable[[str, str], tuple[str, str] | None]
"""Name and value of the header that goes with a credential's name to a URL (`CredentialFile.header`)."""
_POLL_S: Final = 0.2
_AGAIN_S: Final = 10.0
_LOOK_S: Final = 30.0
"""Between two looks at settings that keep a check from asking anything."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    task: asyncio.Task[CheckView]
    begun_s: float
    paused: bool
    held: CheckView | None = None
    """What an earlier look at the settings has said: it stands until this one knows better."""
    runner: Runner | None = None
    """None where nothing is asked: not yet, or not with these settings."""
    had_until_s: float = 0.0
    """The time limit of the try before, with its pauses, Unix seconds; 0: there was none."""

    @property
    def until_s(self) -> float:
        """The time limit as it is now."""
        return self.had_until_s if self.runner is None else self.runner.deadline_s

    def pause(self, paused: bool) -> None:
        self.paused = paused
        if self.runner is not None:
            self.runner.pause(paused)


class ReplayGate:
    """Runs checks on recorded conversations and the golden file."""

    def __init__(self, store: Store, config: Config, credentials: CredentialHeader, clock: Clock) -> None:
        """`credentials` knows the API keys of models, by name."""
        self._store = store
        self._config = config
        self._credentials = credentials
        self._clock = clock
        self._running: dict[int, _Running] = {}
        self._shadows = ShadowChecks(store, config, clock)

    async def poll(self, check: Check, challenger: Model, champion: Model, *, paused: bool = False) -> CheckView:
        """How far it is; it goes on in the background. `paused`: nothing new is asked."""
        if check.verdict is not None:
            return CheckView(id=check.id, done=True, verdict=check.verdict, reasons=_reasons(check.summary))
        if check.kind is CheckKind.SHADOW:
            view = await self._shadows.poll(check, challenger, champion)
            return _paused(view, "no copies are sent") if paused else view
        running = self._running.get(check.id)
        if running is None or self._is_due(running):
            held = running.task.result() if running is not None and _is_held(running) else None
            had_until_s = 0.0 if running is None else running.until_s
            self._running = {known: one for known, one in self._running.items() if not one.task.done()}
            task = spawn(self._run(check, challenger, champion), name=f"check {check.id}")
            running = _Running(task, self._clock.monotonic(), paused, held, had_until_s=had_until_s)
            self._running[check.id] = running
        running.pause(paused)
        await asyncio.wait((running.task,), timeout=_POLL_S)
        if not running.task.done():
            return self._so_far(check, running)
        if _has_failed(running.task):
            return self._interrupted(check, running)
        return running.task.result()

    def _is_due(self, running: _Running) -> bool:
        """Whether it begins again: it was interrupted, or kept from asking by settings that may be mended by now."""
        since_s = self._clock.monotonic() - running.begun_s
        return since_s >= _AGAIN_S if _has_failed(running.task) else _is_held(running) and since_s >= _LOOK_S

    def _interrupted(self, check: Check, running: _Running) -> CheckView:
        """It begins again soon, for as long as it has time; whoever it fails for good holds, and a person sees why."""
        reason = why_interrupted(running.task)
        until_s = max(check.started_us / 1e6 + 60 * self._config.checks.time_limit_minutes, running.until_s)
        if self._clock.now() >= until_s:
            return CheckView(id=check.id, done=True, verdict="hold", reasons=(f"the time limit is over: {reason}",))
        return CheckView(id=check.id, reasons=(f"the check goes on soon: {reason}",))

    def _so_far(self, check: Check, running: _Running) -> CheckView:
        if running.runner is None and running.held is not None:
            return running.held
        if running.runner is None:
            return CheckView(id=check.id, reasons=("questions are being drawn",), progress=0.0)
        view = CheckView(id=check.id, reasons=running.runner.report().reasons, progress=running.runner.progress)
        return _paused(view, "nothing new is asked") if running.paused else view

    async def cancel(self, check_id: int) -> None:
        """Ask nothing more; what was found stays."""
        await self._shadows.cancel(check_id)
        if (running := self._running.pop(check_id, None)) is not None:
            await cancel_and_wait((running.task,))

    async def close(self) -> None:
        """Stop all; whoever leads next goes on with them."""
        await self._shadows.close()
        await cancel_and_wait([running.task for running in self._running.values()])

    async def _run(self, check: Check, challenger: Model, champion: Model) -> CheckView:
        judge = make_judge(self._config.judge, trusting(self._config.champion.ca_file))
        try:
            try:
                plan = await self._plan(check, challenger, champion, judge)
            except UnknownCredentialError as exc:  # on its way: whoever brought it has just given it to the store
                raise TemporaryError(str(exc)) from None
            except (ConfigError, RewriteError) as exc:
                return CheckView(id=check.id, done=True, verdict="hold", reasons=(str(exc),))
            mine = self._running.get(check.id)
            if mine is not None:
                plan = replace(plan, deadline_s=max(plan.deadline_s, mine.had_until_s))
            runner = Runner(plan, StoreLedger(self._store, check.id), self._clock)
            if mine is not None:
                mine.runner = runner
                mine.pause(mine.paused)
            report = await runner.run()
        except TemporaryError as exc:
            _log.warning("check %d waits: %s", check.id, exc)
            raise
        finally:
            if judge is not None:
                await judge.close()
        if runner.silent:
            return CheckView(id=check.id, answers=False, may_pass=runner.may_pass, reasons=(runner.silent,))
        return CheckView(id=check.id, done=True, verdict=report.verdict, reasons=report.reasons, progress=1.0)

    async def _plan(self, check: Check, challenger: Model, champion: Model, judge: Judge | None) -> CheckPlan:
        config, checks = self._config, self._config.checks
        cases = await asyncio.to_thread(golden_of, config)
        weigher = await weigher_of(config, judge, self._store)
        asked = await self._endpoint_of(challenger), await self._endpoint_of(champion)
        fixed = await self._store.checks.freeze(
            check.id,
            {
                "salt": hashlib.blake2b(f"check {check.id} {check.started_us}".encode(), digest_size=16).hexdigest(),
                "golden": None if cases is None else cases.fingerprint,
                "by": "visible" if weigher is None else weigher.by,
                "judge": None if judge is None else judge.scorer,
                "begun_s": self._clock.now(),
            },
        )
        self._refuse_changes(fixed, cases, weigher, judge)
        weigher = None if fixed["by"] == "visible" else weigher
        begun_s = max(check.started_us / 1e6, fixed.get("begun_s", 0.0))  # time with settings of no use is not its own
        prompts = Prompts(
            self._store,
            champion=champion,
            challenger=challenger,
            salt=bytes.fromhex(fixed["salt"]),
            until_us=check.started_us,
            days=checks.days,
            most=most_asked(checks, fixed["by"]),
            holdout_share=config.generator_config.holdout_share,
            model_name=checks.model_name,
        )
        return CheckPlan(
            tls=trusting(self._config.champion.ca_file),
            challenger=asked[0],
            champion=asked[1],
            config=checks,
            scoring=config.scoring,
            cases=cases,
            conversations=prompts if checks.replays else None,
            weigher=weigher,
            rubrics=None if judge is None else Weigher(judge, "scores"),
            warm_up=await recorded(self._store, config.deployer.warmup_requests),
            warmed=int(check.summary.get("counts", {}).get("warmed", 0)),
            deadline_s=begun_s + 60 * checks.time_limit_minutes,
            patience_s=60 * checks.time_limit_minutes,
        )

    async def _endpoint_of(self, model: Model) -> AskedModel:
        """As `endpoint_of`. A key that a person has just given is in the store before it is in this host's file."""
        kept = None if model.credential is None else await self._store.credentials.get(model.credential)
        if kept is None:
            return endpoint_of(model, self._credentials)
        key = kept
        return endpoint_of(model, lambda _, url: key.for_url(url))

    def _refuse_changes(
        self, fixed: Mapping[str, Any], cases: GoldenFile | None, weigher: Weigher | None, judge: Judge | None
    ) -> None:
        """A check keeps the terms that it began with: answers found under others must not be mixed."""
        now = None if cases is None else cases.fingerprint
        if fixed["golden"] != now:
            raise ConfigError("checks.golden: the file has changed since the check began; cancel it, and check anew")
        if fixed["by"] != "visible" and (weigher is None or judge is None or judge.scorer != fixed["judge"]):
            raise ConfigError("judge: another one than when the check began; cancel it, and check anew")


async def weigher_of(config: Config, judge: Judge | None, store: Store | None) -> Weigher | None:
    """Who compares conversations; None where no judge may, so that only what is visible counts."""
    if judge is None or config.checks.judge == "never":
        return None
    if config.checks.judge == "proven" and not await _is_proven(judge, store):
        return None
    return Weigher(judge, config.checks.judge_by)


async def _is_proven(judge: Judge, store: Store | None) -> bool:
    return store is not None and counts_as_judge(await store.judgements.agreement(judge.scorer))


def endpoint_of(model: Model, credentials: CredentialHeader) -> AskedModel:
    """Where a model of the store answers; on the champion's own server it gets that one's key.

    Raises ConfigError without an endpoint, RewriteError, UnknownCredentialError.
    """
    if model.url is None:
        raise ConfigError(f"{model.name} has no endpoint to ask")
    header = credentials(model.credential or CHAMPION, model.url)
    return AskedModel(
        name=model.name,
        url=model.url,
        model=model.model,
        headers=dict((header,)) if header is not None else {},
        rewrite=Rewrite.of(model.rewrite) if model.rewrite is not None else None,
    )


def _reasons(summary: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(reason) for reason in summary.get("reasons", ()))


def _paused(view: CheckView, what: str) -> CheckView:
    return replace(view, reasons=(f"the loop is paused, so {what} (`ratchet resume` ends the pause)", *view.reasons))


def _is_held(running: _Running) -> bool:
    """Whether its settings have kept it from asking anything."""
    return running.task.done() and not _has_failed(running.task) and running.runner is None


def _has_failed(task: asyncio.Task[CheckView]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
