"""The loop behind the library: the same that the proxy runs, with the application as its trainer and deployer.

Its coroutines run on the library's own event loop (`EventLoopThread`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from policies import wording
from policies.assignment import assign, is_held_back
from policies.records import Arm
from proxy.clock import Clock
from proxy.config.load import fingerprint, public_document
from proxy.config.loop import LoopConfig
from proxy.loop.act.install import BaseModel
from proxy.loop.act.leadership import Leadership
from proxy.loop.adapters.gate import NoGate
from proxy.loop.adapters.notify import NoNotifier
from proxy.loop.build import LoopPorts, assemble, rules_of
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.library.inline import AppDeployer, AppProbe, InlineTrainer
from proxy.loop.library.loop import ModelChoice
from proxy.loop.library.usage_store import UsageStore
from proxy.loop.tick import Loop, Tick
from proxy.private import create, make_folder
from proxy.status import Status
from proxy.store.tables.values import RecordFilter
from proxy.wire.person import person_key

__all__ = ["Engine"]

_UNASKED_S: Final = 900.0
"""So long a test may go without one call of the challenger before it is asked what became of `choose_model`."""
_ASKED: Final = "choose_model-was-called"
"""A file beside the log, for the processes that share it: one may choose, and another run the loop."""
_LINES: Final = """
    choice = loop.choose_model(user)  # before each call: whose model answers, choice.name at choice.path
    loop.log_usage(query, response, model=choice.name, user=user)"""


class Engine:
    """Looks, ticks and chooses over whatever store the library has open."""

    def __init__(self, config: LoopConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._training_dir = Path(config.output_dir).expanduser().absolute()
        self.trainer = InlineTrainer(self._training_dir)
        self._leadership: Leadership | None = None
        self._loops: dict[bool, Loop] = {}
        self._usage: UsageStore | None = None
        self._asked_of: UsageStore | None = None

    async def choose(self, usage: UsageStore, user: str | None) -> ModelChoice:
        """The model for this user's query."""
        if self._asked_of is not usage:
            create(_asked(usage))
            self._asked_of = usage
        table = await usage.routes()
        if table is None or usage.position is None:
            return ModelChoice(name=self._config.champion_name, path=None, arm=Arm.CHAMPION)
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

    async def iterate(self, usage: UsageStore, *, trains: bool, limit: int) -> tuple[list[Tick], str | None]:
        """Tick until nothing is left to do now, or `limit` times; the ticks, and what the application has forgotten."""
        loop, ticks = await self._loop(usage, trains=trains), list[Tick]()
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
        return ticks, await self._hint(usage)

    async def status(self, usage: UsageStore) -> tuple[Status, str | None]:
        """How the loop stands, and what the application has forgotten."""
        loop = await self._loop(usage, trains=True)
        await loop.look()
        return await loop.status(), await self._hint(usage)

    async def _hint(self, usage: UsageStore) -> str | None:
        """Of a challenger that waits for users whom nobody sends to it."""
        usage.table_at = float("-inf")
        table, position = await usage.routes(), usage.position
        if table is None or table.challenger is None or position is None or position.challenger is None:
            return None
        experiment = position.experiment
        if experiment is None:
            return None
        since_s = self._clock.now() - (experiment.epoch_started_us or experiment.started_us) / 1e6
        if _asked(usage).exists() and since_s < _UNASKED_S:
            return None
        calls = RecordFilter(arm=Arm.CHALLENGER, experiment_id=experiment.id)
        if (await usage.store.records.list(calls, cursor=None, limit=1)).rows:
            return None
        waited = "" if since_s < _UNASKED_S else f" for {wording.duration(since_s / 3600)}"
        return (
            f"the challenger {position.challenger.name} waits{waited} for its users, and no call of it was logged "
            "since its test began: nobody gets it before the application asks which model to use. Two lines to add:"
            f"{_LINES}"
        )

    async def _loop(self, usage: UsageStore, *, trains: bool) -> Loop:
        if self._usage is not usage:  # opened again: after a close, or in a forked process
            self._usage, self._leadership = usage, Leadership(usage.store)
            self._loops = {}
            models_dir = Path(self._config.models_dir).expanduser()
            make_folder(models_dir)
        if trains not in self._loops:
            mark = fingerprint(self._config)
            selection = self._config.generator_config
            version = await usage.store.configs.add(mark, public_document(self._config))
            self._loops[trains] = assemble(
                store=usage.store,
                clock=self._clock,
                rules=rules_of(self._config, trains=trains),
                ports=LoopPorts(
                    datasets=StoreDatasetBuilder(
                        usage.store.samples, self._config.generator_config, self._training_dir
                    ),
                    trainer=self.trainer,
                    deployer=AppDeployer(),
                    gate=NoGate(),
                    probe=AppProbe(),
                    notifier=NoNotifier(),
                ),
                base=BaseModel(name=self._config.champion_name, url=""),
                training_dir=self._training_dir,
                routes_path=None,
                selection=selection,
                drain_s=0.0,
                config_id=version.id,
                fingerprint=mark,
                leadership=self._leadership,
            )
        return self._loops[trains]


def _asked(usage: UsageStore) -> Path:
    return usage.journal.folder / _ASKED
