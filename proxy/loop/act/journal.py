"""The loop's book-keeping: the state at the start of a tick, intents, outcomes, and what a wait is noted as.

Each write is one transaction under the lease's fence. The version of the route table grows in the transaction that
changes where requests go, so the file can always be told from an older one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.actions import Action, tag_of
from policies.lifecycle import Event
from policies.plan import LoopRules, Plan
from policies.rows import Experiment, Model, Run
from policies.state import LoopState
from policies.transition import (
    LONGEST_RETRY_S,
    Context,
    Position,
    Transition,
    postpone,
    rerouted,
    under_settings,
    with_baseline,
)
from policies.vocabulary import HOLD, INSTALL
from proxy.loop.act.clock_repair import ClockRepair
from proxy.loop.act.install import BaseModel, configured_model, first_state
from proxy.loop.act.routes import RoutesFile, route_table, same_routes
from proxy.loop.codec import to_json
from proxy.loop.look.explain import inputs_of
from proxy.loop.look.observe import Observation
from proxy.loop.state import DETECTOR_ENTRY, STATE_ENTRY, state_from_json, state_to_json
from proxy.store.store import Store
from proxy.store.tables.control import CommandRow, CommandState, JournalEntry, Lease, Look, LoopTransaction

__all__ = ["LOOP", "LoopJournal"]

LOOP: Final = "ratchet"
"""Who decided, where no person did."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopJournal:
    """Reads and writes the loop's own rows."""

    store: Store
    rules: LoopRules
    base: BaseModel
    routes: RoutesFile
    clock_repair: ClockRepair
    config_id: int

    async def state(self) -> LoopState | None:
        """What was written last; None before the first tick of an installation."""
        entry = await self.store.state.get(STATE_ENTRY)
        return None if entry is None else state_from_json(entry)

    # ------------------------------------------------------------------------------ what is no decision

    async def open(self, lease: Lease, now: float) -> LoopState:
        """The state to tick on: installed, with the configured champion up to date, and never behind the routes."""
        state, on_disk = await self.state(), await self.routes.version()
        if state is None:
            state = await first_state(self.store, self.base, now, on_disk, self.config_id)
            await self._install(lease, state, reason="installed")
        state = await self._in_time(lease, state, now)
        version = state.ledger.routes_version
        if on_disk > version:
            reason = (
                f"the route table on disk (version {on_disk}) is newer than the database (version {version}), as after "
                "a restore: the database decides"
            )
            state = rerouted(state, on_disk + 1)
            await self._install(lease, state, reason=reason)
        if state.ledger.config_id != self.config_id:
            state = under_settings(state, self.config_id)
            await self._install(lease, state, reason="new settings are in force")
        changed = await configured_model(self.store, self.base)
        if changed is not None:
            state = rerouted(state, state.ledger.routes_version + 1)
            reason = "the configuration names another champion address"
            await self._install(lease, state, models=(changed,), reason=reason)
        return state

    async def _in_time(self, lease: Lease, state: LoopState, now: float) -> LoopState:
        """The state without what a clock that was ahead has left in it."""
        longest_wait_s = self.rules.check_interval_s + LONGEST_RETRY_S
        repair = await self.clock_repair.repair(state, now, longest_wait_s)
        if repair is None:
            return state
        _log.warning("%s", repair.reason)
        await self._install(lease, repair.state, reason=repair.reason, experiments=repair.experiments, runs=repair.runs)
        return repair.state

    async def keep(
        self, lease: Lease, state: LoopState, *, models: tuple[Model, ...], baseline: tuple[float, str] | None,
        detector: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        """Write what maintenance has found. `models` have moved: routes follow them."""
        if models:
            state = rerouted(state, await self.next_version(state))
        if baseline is not None:
            state = with_baseline(state, *baseline)
        entries = {STATE_ENTRY: state_to_json(state)} | ({} if detector is None else {DETECTOR_ENTRY: detector})
        await self.store.journal.transition(LoopTransaction(fence=lease.fence, models=models, state=entries))

    async def next_version(self, state: LoopState) -> int:
        """Of a route table that is newer than any."""
        return max(state.ledger.routes_version, await self.routes.version()) + 1

    async def _install(
        self, lease: Lease, state: LoopState, *, reason: str, models: tuple[Model, ...] = (),
        experiments: tuple[Experiment, ...] = (), runs: tuple[Run, ...] = (),
    ) -> None:  # fmt: skip
        """A change of the installation itself, with an entry of its own."""
        entry = await self.store.journal.intend(
            INSTALL, fence=lease.fence, who=LOOP, why=reason, inputs={"reasons": [reason]}, config_id=self.config_id
        )
        await self.store.journal.transition(
            LoopTransaction(
                fence=lease.fence,
                seq=entry.seq,
                outcome={"reason": reason},
                models=models,
                experiments=experiments,
                runs=runs,
                state={STATE_ENTRY: state_to_json(state)},
            )
        )

    # --------------------------------------------------------------------------------- what was decided

    async def intend(self, lease: Lease, seen: Observation, decided: Plan, now: float) -> JournalEntry:
        """Write down what is about to be done, or that nothing is, and why."""
        command, phase = decided.command, seen.position.state.phase
        return await self.store.journal.intend(
            HOLD if decided.action is None else tag_of(decided.action),
            fence=lease.fence,
            who=LOOP if command is None else command.who,
            why=decided.reasons[0],
            inputs=inputs_of(seen.snapshot, self.rules, now, decided),
            run_id=getattr(decided.action, "run_id", getattr(phase, "run_id", None)),
            experiment_id=getattr(phase, "experiment_id", None),
            config_id=self.config_id,
        )

    async def commit(
        self, lease: Lease, entry: JournalEntry, before: Position, done: Transition, now: Context,
        command: CommandRow | None,
    ) -> LoopState:  # fmt: skip
        """Write the outcome: everything that follows from the action, in one transaction."""
        state = done.state
        if not same_routes(route_table(before), route_table(before.after(done))):
            state = rerouted(state, now.version)
        await self.store.journal.transition(
            LoopTransaction(
                fence=lease.fence,
                seq=entry.seq,
                outcome={
                    **done.outcome,
                    "event": done.event.value,
                    "reason": done.reason,
                    "phase": {"from": before.state.phase.name, "to": state.phase.name},
                },
                state={STATE_ENTRY: state_to_json(state)},
                models=done.models,
                checks=done.checks,
                experiments=done.experiments,
                runs=done.runs,
                looks=_looks(entry, before, now),
                commands=() if command is None else (_answered(command, done),),
            )
        )
        return state

    async def postpone(
        self, lease: Lease, entry: JournalEntry, action: Action, state: LoopState, error: str, retry_after_s: float,
        at: float, command: CommandRow | None,
    ) -> None:  # fmt: skip
        """Write down that it could not be done, and when it is tried again. A person's command is not repeated."""
        if command is not None:
            refused = replace(command, state=CommandState.REFUSED, detail=error)
            await self._fail(lease, entry, {"reason": error}, commands=(refused,))
            return
        state, retry = postpone(state, action, error, retry_after_s, at)
        outcome = {"reason": error, "retry_at": retry.at, "attempts": retry.attempts}
        await self._fail(lease, entry, outcome, state={STATE_ENTRY: state_to_json(state)})

    async def drop(self, lease: Lease, entry: JournalEntry, reason: str) -> None:
        """Close an intent that needs nothing any more, or that this version cannot read."""
        await self._fail(lease, entry, {"reason": reason})

    async def _fail(
        self, lease: Lease, entry: JournalEntry, outcome: Mapping[str, Any], *, state: Mapping[str, Any] | None = None,
        commands: tuple[CommandRow, ...] = (),
    ) -> None:  # fmt: skip
        await self.store.journal.transition(
            LoopTransaction(
                fence=lease.fence, seq=entry.seq, failed=True, outcome=outcome, state=state or {}, commands=commands
            )
        )

    async def hold(self, lease: Lease, seen: Observation, decided: Plan, now: float, *, note: bool, look: bool) -> None:
        """Write down a decision to do nothing, where its kind is new (`note`) or a look is due (`look`)."""
        experiment = seen.snapshot.experiment
        looks: tuple[Look, ...] = ()
        if look and experiment is not None and decided.assessment is not None:
            assessment = to_json(decided.assessment)
            looks = (Look(experiment_id=experiment.id, at_us=round(now * 1e6), assessment=assessment),)
        if not note:
            if looks:
                await self.store.journal.transition(LoopTransaction(fence=lease.fence, looks=looks))
            return
        entry = await self.intend(lease, seen, decided, now)
        outcome = {"reason": decided.reasons[0], "wake_at": decided.wake_at}
        await self.store.journal.transition(
            LoopTransaction(fence=lease.fence, seq=entry.seq, outcome=outcome, looks=looks)
        )


def _looks(entry: JournalEntry, before: Position, now: Context) -> tuple[Look, ...]:
    """The evaluation that led to the action."""
    assessment, experiment = entry.inputs.get("assessment"), before.experiment
    if assessment is None or experiment is None:
        return ()
    return (Look(experiment_id=experiment.id, at_us=now.at_us, assessment=assessment),)


def _answered(command: CommandRow, done: Transition) -> CommandRow:
    state = CommandState.REFUSED if done.event is Event.REFUSED else CommandState.DONE
    return replace(command, state=state, detail=done.reason)
