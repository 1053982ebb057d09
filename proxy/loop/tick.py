"""The loop: one tick, from the lease to the next sleep, and safe to kill anywhere in it.

    acquire the lease → resume unfinished intents → maintain
    → observe → plan → (intent) → execute → apply → commit → publish
    → notification, status, metrics

At most one action a tick. Only `execute` touches the outside, and it decides nothing; only `apply` says what follows,
and it touches nothing; only `commit` writes it, in one transaction.

An effect that was begun and not written down is done again with the same id; a decision that was written down and
not begun is begun. A process that lost its lease finds its writes refused by the fence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.actions import Action, target_of
from policies.brakes import Brake
from policies.effects import Done
from policies.experiment import Verdict
from policies.lifecycle import Phase
from policies.plan import Plan, plan
from policies.state import LoopState
from policies.transition import Context, Position, Transition, apply, stale
from proxy.clock import Clock
from proxy.credentials import Credential
from proxy.errors import PermanentError, TemporaryError
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.events import done_event, held_event, rests_on_few
from proxy.loop.act.execute import Executor
from proxy.loop.act.journal import LoopJournal
from proxy.loop.act.leadership import Leadership
from proxy.loop.act.maintenance import Maintenance
from proxy.loop.act.pasts import PastReader
from proxy.loop.act.routes import RoutePublisher
from proxy.loop.codec import action_from_json
from proxy.loop.dataset.selection_pass import Progress
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.look.observe import Observation, Observer
from proxy.loop.look.position import present_position, read_position
from proxy.loop.look.status import status_of, with_building
from proxy.loop.ports import LoopTroubles, Notifier
from proxy.status import STARTING, PhaseStatus, Status
from proxy.store.engine.refusals import StoreAwayError
from proxy.store.store import Store
from proxy.store.tables.control import CommandRow, JournalEntry, Lease
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["Loop", "Tick"]

_RETRY_S: Final = 10.0
"""First wait after an effect that failed for a reason of its own."""
_FAILED_TICK_S: Final = 5.0
"""Wait after a tick that could not be finished; doubles, up to …"""
_LONGEST_WAIT_S: Final = 60.0
_MOST_DOUBLINGS: Final = 20
_TROUBLE_AFTER: Final = 2
"""Failures in a row: one may be a lease that has just gone to another."""
_ANSWER_S: Final = 5.0
"""Whoever asks a standby for its status waits this long for a fresh one."""
_LONGEST_SLEEP_S: Final = 10.0
"""Between two looks without a tick, so that metrics and status stay fresh."""
_ASK_SOMEBODY: Final = (Verdict.INVALID, Verdict.INCONCLUSIVE)
_CHECK_ASKS: Final = ("hold", "undecided")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one tick has done."""

    plan: Plan | None
    """None on a standby, which looks only when it is asked."""
    transition: Transition | None
    """What followed from the action; None without one, or where it could not be done."""
    leader: bool
    wake_at: float
    """Tick again then at the latest (Unix seconds)."""


class Loop:
    """Ticks. Everything that it needs is handed in; `proxy.loop.build` puts it together."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        journal: LoopJournal,
        leadership: Leadership,
        observer: Observer,
        maintenance: Maintenance,
        pasts: PastReader,
        executor: Executor,
        notifier: Notifier,
        drain_s: float = 0.0,
        metrics: LoopMetrics | None = None,
        building: Callable[[], Progress | None] = lambda: None,
        troubles: LoopTroubles | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._journal = journal
        self._leadership = leadership
        self._observer = observer
        self._maintenance = maintenance
        self._pasts = pasts
        self._executor = executor
        self._notifier = notifier
        self._drain_s = drain_s
        self._metrics = metrics
        self._building = building
        if metrics is not None:
            metrics.building = building
        self._poked = asyncio.Event()
        self._status: Status | None = None
        self._last_hold: tuple[object, ...] = ()
        self._looked_at = 0.0
        self._looking = asyncio.Lock()
        self._shown_at = float("-inf")
        self._followed: Position | None = None
        self._publisher = RoutePublisher(store, journal.routes, clock, troubles)
        self._troubles = troubles
        self._throttled = ThrottledLog(_log, clock)

    # ---------------------------------------------------------------------------------------- one tick

    async def tick(self) -> Tick:
        """One pass. Raises TemporaryError while the store is away, PermanentError where the lease was lost in it."""
        lease = await self._leadership.acquire()
        if lease is None:
            return await self.follow()
        async with self._leadership.renewing():
            state = await self._journal.open(lease, self._clock.now())
            state = await self._resume(lease, state)
            await self._maintain(lease, state)
            seen = await self._observe(await present_position(self._store), self._journal.config_id)
            now = self._clock.now()
            decided = plan(seen.snapshot, self._journal.rules, now)
            done = None
            if decided.action is None:
                await self._hold(lease, seen, decided, now)
            else:
                done = await self._act(lease, seen, decided, decided.action, now)
            await self._publisher.publish()
            await self._pasts.keep(lease, await present_position(self._store))
        self._show(seen, decided, leader=True)
        return Tick(plan=decided, transition=done, leader=True, wake_at=decided.wake_at)

    async def follow(self) -> Tick:
        """A standby's tick: requests go where the leader's rows say. It asks for one row, for many may stand by."""
        wake_at = self._clock.now() + self._leadership.renew_s
        await self._pasts.stop()
        state = await self._journal.state()
        if state is not None:
            if self._followed is None or self._followed.state != state:
                self._followed = await present_position(self._store)
                self._shown_at = float("-inf")
            await self._publisher.publish(self._followed)
        if self._metrics is not None:
            self._metrics.standing_by(wake_at)
        return Tick(plan=None, transition=None, leader=False, wake_at=wake_at)

    async def look(self, *, leader: bool = True) -> Tick:
        """See and show what a tick would see, without acting: for status, between two ticks or on a standby. Writes
        nothing."""
        position = await read_position(self._store)
        if position is None:
            return Tick(plan=None, transition=None, leader=leader, wake_at=self._clock.now() + self._leadership.renew_s)
        seen = await self._observe(position, position.state.ledger.config_id, ask=leader)
        now = self._clock.now()
        decided = plan(seen.snapshot, self._journal.rules, now)
        self._show(seen, decided, leader=leader)
        wake_at = decided.wake_at if leader else now + self._leadership.renew_s
        return Tick(plan=decided, transition=None, leader=leader, wake_at=wake_at)

    async def _resume(self, lease: Lease, state: LoopState) -> LoopState:
        """Finish what a crash left begun: the same action, by the same ids, as of the same instant."""
        for entry in await self._store.journal.unfinished():
            inputs = entry.inputs
            if inputs.get("action") is None:
                await self._journal.drop(lease, entry, "interrupted before anything was done")
                continue
            try:
                action = action_from_json(inputs["action"])
            except (TypeError, ValueError) as exc:
                await self._journal.drop(lease, entry, str(exc))
                continue
            _log.info("resuming %s of journal entry %d", entry.action, entry.seq)
            command = await self._command(inputs.get("command"))
            context = await self._context(inputs["now"], entry.why, command)
            await self._carry_out(lease, entry, action, context, command)
            state = (await present_position(self._store)).state
        return state

    async def _maintain(self, lease: Lease, state: LoopState) -> None:
        """Bring deployments back, freeze a baseline that is due, feed the drop detector.

        None of this is a decision, and all of it is what decisions rest on. So it comes before this tick looks: a plan
        made first would see a server at the port that it had before its restart, call it dead, and send it back. It is
        a write of its own, and only where something has changed: a crash after it loses nothing, as it is found again.
        """
        now_us = round(self._clock.now() * 1e6)
        moved = await self._maintenance.deployments(await present_position(self._store))
        detector = await self._maintenance.detector(state, now_us)
        baseline = await self._maintenance.baseline(state, now_us)
        if moved or detector is not None or baseline is not None:
            await self._journal.keep(lease, state, models=moved, baseline=baseline, detector=detector)

    async def _act(
        self, lease: Lease, seen: Observation, decided: Plan, action: Action, now: float
    ) -> Transition | None:
        """Intent, effect, outcome."""
        entry = await self._journal.intend(lease, seen, decided, now)
        command = await self._command(decided.command.id if decided.command else None)
        context = await self._context(now, decided.reasons[0], command)
        return await self._carry_out(lease, entry, action, context, command)

    async def _carry_out(
        self, lease: Lease, entry: JournalEntry, action: Action, now: Context, command: CommandRow | None
    ) -> Transition | None:
        """Execute, apply, commit. A stale action is not executed; None where it could not be done."""
        before = await present_position(self._store)
        try:
            effect = Done() if stale(before, action) else await self._executor.execute(action, before, now.at)
            done = apply(before, action, effect, now)
        except Exception as exc:  # noqa: BLE001 - a plug-in's edge: whatever it raises, the loop goes on
            await self._failed(lease, entry, action, before, command, exc)
            return None
        state = await self._journal.commit(lease, entry, before, done, now, command)
        _log.info("%s: %s", done.event.value, done.reason)
        self._notifier.notify(done_event(entry, before, done, now, state))
        return done

    async def _failed(
        self, lease: Lease, entry: JournalEntry, action: Action, before: Position, command: CommandRow | None,
        exc: Exception,
    ) -> None:  # fmt: skip
        error, about = str(exc) or type(exc).__name__, (entry.action, target_of(action))
        if isinstance(exc, TemporaryError | PermanentError | LookupError):
            self._throttled.warning(about, "%s could not be done: %s", entry.action, error)
        else:
            self._throttled.error(about, "%s failed unexpectedly\n%s", entry.action, _traceback(exc))
        retry_s = exc.retry_after_s if isinstance(exc, TemporaryError) else _RETRY_S
        await self._journal.postpone(lease, entry, action, before.state, error, retry_s, self._clock.now(), command)

    async def _hold(self, lease: Lease, seen: Observation, decided: Plan, now: float) -> None:
        """Nothing to do: note it where that is news, and keep a look at the experiment every now and then."""
        verdict = decided.assessment.verdict if decided.assessment else None
        carried = rests_on_few(decided)
        watching = decided.watch.decision if decided.watch else None
        check = seen.snapshot.check.verdict if seen.snapshot.check else None
        kind = (seen.snapshot.phase, seen.snapshot.paused, type(decided.held), verdict, check, carried, watching,
                decided.triggers.fired, decided.triggers.hold is None, decided.triggers.brake)  # fmt: skip
        note = kind != self._last_hold
        interval_s = self._journal.rules.check_interval_s
        look = note or not 0 <= now - self._looked_at < interval_s
        await self._journal.hold(lease, seen, decided, now, note=note, look=look)
        asks = "few_clusters" if carried else verdict.value if verdict in _ASK_SOMEBODY else None
        if check in _CHECK_ASKS:
            asks = f"check_{check}"
        if seen.snapshot.phase is Phase.IDLE and decided.triggers.brake is Brake.REJECTIONS:
            asks = "stopped_after_rejections"
        if note and asks is not None:
            self._notifier.notify(held_event(seen, decided, now, asks))
        self._last_hold = kind
        self._looked_at = now if look else self._looked_at

    # ------------------------------------------------------------------------------------ around it

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until `stop`, then give the lease back. A tick that fails is reported and tried again."""
        failures = 0
        while not stop.is_set():
            try:
                self._poked.clear()  # here: where this tick fails, what woke it must not keep the wait from waiting
                tick = await self.tick()
                if tick.leader:
                    self._pasts.show()
                self._report_recovery(failures)
                failures = 0
                await self._sleep_until(tick, stop)
            except Exception as exc:  # noqa: BLE001 - whatever breaks, the loop goes on
                failures += 1
                self._report_failure(exc, failures)
                await self._wait_after(failures, stop)
        await self._pasts.stop()
        with contextlib.suppress(TemporaryError, PermanentError):
            await self._leadership.release()

    async def finish(self) -> None:
        """Wait for what goes on beside the ticks: for who ticks now and then, and gives the lease back in between."""
        await self._pasts.finish()

    def _report_failure(self, exc: Exception, failures: int) -> None:
        """Say what keeps the loop from ticking: a line a minute, and a trouble where it is not the store's own."""
        said = str(exc) or type(exc).__name__
        if isinstance(exc, StoreAwayError) and self._troubles is not None:
            return  # a trouble of the store's, and said as one
        if isinstance(exc, TemporaryError | PermanentError | OSError):
            self._throttled.warning(type(exc).__name__, "tick could not be finished: %s", said)
        else:
            self._throttled.error(type(exc).__name__, "tick failed\n%s", _traceback(exc))
        if self._troubles is not None and failures >= _TROUBLE_AFTER and not isinstance(exc, TemporaryError):
            self._troubles.report("loop", f"the loop cannot tick: {said}; serving goes on", quiet=True)

    def _report_recovery(self, failures: int) -> None:
        if self._troubles is not None:
            self._troubles.over("loop")
        if failures:
            self._throttled.warning("well", "the loop ticks again, after %d failures", failures)

    @property
    def leading(self) -> bool:
        """Whether this process has the lease, as far as it can know."""
        return self._leadership.leads

    def poke(self) -> None:
        """Tick now: a command came in."""
        self._poked.set()

    async def submit(
        self, verb: str, args: Mapping[str, Any], who: str, why: str, key: Credential | None = None
    ) -> int:
        """Write a command down for the next tick, with the API key that comes with it, and wake it; returns its id."""
        command = await self._store.commands.submit(verb, who=who, why=why, args=args, key=key)
        self.poke()
        return command.id

    async def status(self) -> Status:
        """The status document of the latest look; a standby looks for it. Raises TemporaryError."""
        age_s = self._clock.monotonic() - self._shown_at
        if self._status is None or (not self.leading and age_s >= self._leadership.renew_s):
            await self._look_for_status()
        if self._status is None:
            return Status(phase=PhaseStatus(name=STARTING, reason="The loop has not looked yet."), leader=self.leading)
        status = replace(self._status, leader=self._status.leader and not self._leadership.lapsed)
        progress = self._building()
        return status if progress is None else with_building(status, progress)

    async def _look_for_status(self) -> None:
        """What was seen before will do where the store is away."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self.look(leader=False)
        except (TemporaryError, TimeoutError) as exc:
            if self._status is None:
                raise TemporaryError(
                    f"nothing was seen yet: {str(exc) or 'the store is slow'}", retry_after_s=1.0
                ) from exc

    async def _sleep_until(self, tick: Tick, stop: asyncio.Event) -> None:
        """Sleep until the next tick is due, renewing the lease and looking again meanwhile."""
        due = self._clock.monotonic() + tick.wake_at - self._clock.now()
        while not stop.is_set() and not self._poked.is_set() and (left_s := due - self._clock.monotonic()) > 0:
            await self._nap(min(left_s, self._leadership.renew_s, _LONGEST_SLEEP_S), stop)
            if tick.leader and due > self._clock.monotonic():
                if await self._leadership.acquire() is None or await self._publisher.lost():
                    break
                if (seen := (await self.look()).plan) is not None and seen.action is not None:
                    break  # harm does not wait for the next tick; nor does a command whose notification was lost

    async def _wait_after(self, failures: int, stop: asyncio.Event) -> None:
        if self._metrics is not None:
            self._metrics.failed()
            if not self.leading:
                self._metrics.deposed()
        await self._nap(min(_FAILED_TICK_S * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), _LONGEST_WAIT_S), stop)

    async def _nap(self, seconds: float, stop: asyncio.Event) -> None:
        """Until the time is up, a poke, or the end."""
        waits = [spawn(event.wait(), name="nap of the loop") for event in (stop, self._poked)]
        try:
            await asyncio.wait(waits, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(waits)

    # ----------------------------------------------------------------------------------- small parts

    async def _observe(self, position: Position, config_id: int, *, ask: bool = True) -> Observation:
        async with self._looking:  # a look for somebody's status may be under way
            return await self._observer.observe(position, config_id, ask=ask)

    async def _context(self, at: float, why: str, command: CommandRow | None) -> Context:
        state = (await present_position(self._store)).state
        return Context(
            at=at,
            why=why,
            manual=command is not None,
            version=await self._journal.next_version(state),
            rules=self._journal.rules,
            drain_s=self._drain_s,
        )

    async def _command(self, command_id: int | None) -> CommandRow | None:
        return None if command_id is None else await self._store.commands.get(command_id)

    def _show(self, seen: Observation, decided: Plan, *, leader: bool) -> None:
        self._status = status_of(seen, decided, at=self._clock.now(), leader=leader)
        self._shown_at = self._clock.monotonic()
        if self._metrics is not None and leader:
            self._metrics.set(seen.snapshot, decided)


def _traceback(exc: Exception) -> str:
    return "".join(traceback.format_exception(exc)).rstrip()
