"""The loop's book-keeping: the state at the start of a tick, intents, outcomes, and what a wait is noted as.

Each write is one transaction under the lease's fence. The version of the route table grows in the transaction that
changes where requests go, so the file can always be told from an older one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.actions import Action, target_of
from policies.lifecycle import Event
from policies.plan import LoopRules, Plan
from policies.snapshot import Retry, retry_of
from proxy.loop.act.context import ActionContext, ActionResult
from proxy.loop.act.install import BaseModel, configured_model, first_state
from proxy.loop.act.instants import Instants
from proxy.loop.act.routing import RoutesFile, route_table, same_routes
from proxy.loop.codec import from_json, to_json
from proxy.loop.look.explain import HOLD, inputs_of
from proxy.loop.look.observe import Observation
from proxy.loop.look.standing import Participants
from proxy.loop.state import DETECTOR_ENTRY, STATE_ENTRY, LoopState, with_retry, without_retry
from proxy.store.store import Store
from proxy.store.tables.control import (
    CommandRow,
    CommandState,
    Experiment,
    JournalEntry,
    Lease,
    Look,
    LoopTransaction,
    Model,
    Run,
)

__all__ = ["LOOP", "LoopJournal"]

LOOP: Final = "ratchet"
"""Who decided, where no person did."""
_LONGEST_RETRY_S: Final = 600.0
_MOST_DOUBLINGS: Final = 20
"""What fails for weeks must not grow beyond a float."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopJournal:
    """Reads and writes the loop's own rows."""

    store: Store
    rules: LoopRules
    base: BaseModel
    routes: RoutesFile
    instants: Instants
    config_id: int

    async def state(self) -> LoopState | None:
        """What was written last; None before the first tick of an installation."""
        entry = await self.store.state.get(STATE_ENTRY)
        return None if entry is None else from_json(LoopState, entry)

    async def open(self, lease: Lease, now: float) -> LoopState:
        """The state to tick on: installed, with the configured champion up to date, and never behind the routes."""
        state, on_disk = await self.state(), await self.routes.version()
        if state is None:
            state = await first_state(self.store, self.base, now, on_disk)
            state = replace(state, config_id=self.config_id)
            await self._write(lease, state, reason="installed")
        state = await self._in_time(lease, state, now)
        if on_disk > state.routes_version:
            reason = (
                f"the route table on disk (version {on_disk}) is newer than the database (version "
                f"{state.routes_version}), as after a restore: the database decides"
            )
            state = replace(state, routes_version=on_disk + 1)
            await self._write(lease, state, reason=reason)
        if state.config_id != self.config_id:
            state = replace(state, config_id=self.config_id, routes_version=state.routes_version + 1)
            await self._write(lease, state, reason="new settings are in force")
        changed = await configured_model(self.store, self.base)
        if changed is not None:
            state = replace(state, routes_version=state.routes_version + 1)
            await self._write(
                lease, state, models=(changed,), reason="the configuration names another champion address"
            )
        return state

    async def _in_time(self, lease: Lease, state: LoopState, now: float) -> LoopState:
        """The state without what a clock that was ahead has left in it."""
        longest_wait_s = self.rules.check_interval_s + _LONGEST_RETRY_S
        mended = await self.instants.mended(state, now, longest_wait_s)
        if mended is None:
            return state
        _log.warning("%s", mended.reason)
        await self._write(lease, mended.state, reason=mended.reason, experiments=mended.experiments, runs=mended.runs)
        return mended.state

    async def keep(
        self, lease: Lease, state: LoopState, *, models: tuple[Model, ...], detector: Mapping[str, Any] | None
    ) -> None:
        """Write what upkeep has found."""
        entries = {STATE_ENTRY: to_json(state)} | ({} if detector is None else {DETECTOR_ENTRY: detector})
        await self.store.transition(LoopTransaction(fence=lease.fence, models=models, state=entries))

    async def intend(self, lease: Lease, seen: Observation, decided: Plan, now: float) -> JournalEntry:
        """Write down what is about to be done, or that nothing is, and why."""
        command = decided.command
        return await self.store.journal.intend(
            HOLD if decided.action is None else type(decided.action).__name__,
            fence=lease.fence,
            who=LOOP if command is None else command.who,
            why=decided.reasons[0],
            inputs=inputs_of(seen.snapshot, self.rules, now, decided),
            run_id=getattr(decided.action, "run_id", seen.state.run_id),
            experiment_id=seen.state.experiment_id,
            config_id=self.config_id,
        )

    async def settle(
        self,
        lease: Lease,
        entry: JournalEntry,
        action: Action,
        now: ActionContext,
        change: ActionResult,
        command: CommandRow | None,
    ) -> LoopState:
        """Write the outcome: everything that the action changed, in one transaction."""
        state = change.state
        if change.event is not Event.DATASET_TOO_SMALL:  # which sets a wait of its own
            state = without_retry(state, action)
        before, after = self._tables(now, state, change)
        if not same_routes(before, after):
            state = replace(state, routes_version=now.next_version)
        await self.store.transition(
            LoopTransaction(
                fence=lease.fence,
                seq=entry.seq,
                outcome={
                    **change.outcome,
                    "event": change.event.value,
                    "reason": change.reason,
                    "phase": {"from": now.state.phase.value, "to": state.phase.value},
                },
                state={STATE_ENTRY: to_json(state)},
                models=change.models,
                experiments=change.experiments,
                runs=change.runs,
                looks=_looks(entry, now),
                commands=() if command is None else (_answered(command, change),),
            )
        )
        return state

    async def postpone(
        self, lease: Lease, entry: JournalEntry, action: Action, now: ActionContext, error: str, retry_after_s: float,
        at: float, command: CommandRow | None,
    ) -> LoopState:  # fmt: skip
        """Write down that it could not be done, and when it is tried again. A person's command is not repeated."""
        if command is not None:
            refused = replace(command, state=CommandState.REFUSED, detail=error)
            outcome = {"reason": error}
            await self.store.transition(
                LoopTransaction(fence=lease.fence, seq=entry.seq, failed=True, outcome=outcome, commands=(refused,))
            )
            return now.state
        before = retry_of(now.state.retries, action)
        attempts = 1 + (0 if before is None else before.attempts)
        wait_s = min(retry_after_s * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS), _LONGEST_RETRY_S)
        retry = Retry(action=type(action).__name__, target=target_of(action), at=at + wait_s, attempts=attempts,
                      reason=error)  # fmt: skip
        state = with_retry(now.state, retry)
        await self.store.transition(
            LoopTransaction(
                fence=lease.fence,
                seq=entry.seq,
                failed=True,
                outcome={"reason": error, "retry_at": at + wait_s, "attempts": attempts},
                state={STATE_ENTRY: to_json(state)},
            )
        )
        return state

    async def hold(self, lease: Lease, seen: Observation, decided: Plan, now: float, *, note: bool, look: bool) -> None:
        """Write down a decision to do nothing, where its kind is new (`note`) or a look is due (`look`)."""
        experiment = seen.snapshot.experiment
        looks: tuple[Look, ...] = ()
        if look and experiment is not None and decided.assessment is not None:
            assessment = to_json(decided.assessment)
            looks = (Look(experiment_id=experiment.id, at_us=round(now * 1e6), assessment=assessment),)
        if not note:
            if looks:
                await self.store.transition(LoopTransaction(fence=lease.fence, looks=looks))
            return
        entry = await self.intend(lease, seen, decided, now)
        outcome = {"reason": decided.reasons[0], "wake_at": decided.wake_at}
        await self.store.transition(LoopTransaction(fence=lease.fence, seq=entry.seq, outcome=outcome, looks=looks))

    async def drop(self, lease: Lease, entry: JournalEntry, reason: str) -> None:
        """Close an intent that needs nothing any more, or that this version cannot read."""
        outcome = {"reason": reason}
        await self.store.transition(LoopTransaction(fence=lease.fence, seq=entry.seq, failed=True, outcome=outcome))

    def _tables(self, now: ActionContext, state: LoopState, change: ActionResult) -> tuple[Any, Any]:
        """The route tables before and after the change, but for their versions."""
        participants = now.participants
        rows = {
            row.id: row
            for row in (participants.champion, participants.challenger, participants.previous)
            if row is not None
        }
        rows |= {row.id: row for row in change.models}
        experiments = {row.id: row for row in (participants.experiment, *change.experiments) if row is not None}
        after = Participants(
            champion=rows[state.champion_id],
            challenger=None if state.challenger_id is None else rows.get(state.challenger_id),
            experiment=None if state.experiment_id is None else experiments.get(state.experiment_id),
        )
        return route_table(now.state, participants, self.config_id), route_table(state, after, self.config_id)

    async def _write(
        self, lease: Lease, state: LoopState, *, reason: str, models: tuple[Model, ...] = (),
        experiments: tuple[Experiment, ...] = (), runs: tuple[Run, ...] = (),
    ) -> None:  # fmt: skip
        """A change of the installation itself, with an entry of its own."""
        entry = await self.store.journal.intend(
            "Install", fence=lease.fence, who=LOOP, why=reason, inputs={"reasons": [reason]}, config_id=self.config_id
        )
        await self.store.transition(
            LoopTransaction(
                fence=lease.fence,
                seq=entry.seq,
                outcome={"reason": reason},
                models=models,
                experiments=experiments,
                runs=runs,
                state={STATE_ENTRY: to_json(state)},
            )
        )


def _looks(entry: JournalEntry, now: ActionContext) -> tuple[Look, ...]:
    """The evaluation that led to the action."""
    assessment = entry.inputs.get("assessment")
    if assessment is None or now.state.experiment_id is None:
        return ()
    return (Look(experiment_id=now.state.experiment_id, at_us=now.at_us, assessment=assessment),)


def _answered(command: CommandRow, change: ActionResult) -> CommandRow:
    state = CommandState.REFUSED if change.event is Event.REFUSED else CommandState.DONE
    return replace(command, state=state, detail=change.reason)
