"""The controller: moves the spool into the store, runs the loop, answers on the admin port.

Nothing here is needed to serve: it may be killed, upgraded, or wait for its database, and traffic does not notice.
The admin port opens first and stays open while the store is away, so that /metrics and /health can say so. Each part is
a task of its own that is started again when it fails; none takes another down.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

import uvloop

from proxy.app.admin_port import admin_port
from proxy.app.alias_check import serve_names
from proxy.app.champion import ChampionWatch
from proxy.app.child import EXIT_CONFIG, Inheritance, receive_inheritance
from proxy.app.clock_jumps import watch_clock
from proxy.app.controller_lock import ControllerLock
from proxy.app.credential_keeper import keep_credentials
from proxy.app.deletion import HostDeletion
from proxy.app.exporting import TelemetryOut
from proxy.app.file_watch import key_trouble
from proxy.app.garbage import leave_batches
from proxy.app.heartbeat import ReplicaHeartbeat, replica_id
from proxy.app.housekeeping import ArchiveMetrics, Housekeeping
from proxy.app.judging import Judging
from proxy.app.last_flush import FLUSH_S, LastFlush
from proxy.app.listeners import public_address
from proxy.app.logs import configure_logging
from proxy.app.loop_service import LoopService
from proxy.app.open_webui import OpenWebUILink
from proxy.app.own_votes import OwnVotes
from proxy.app.parent_pipe import ShutdownSignal
from proxy.app.parts import Parts
from proxy.app.paths import DataDir, open_to_others
from proxy.app.priority import lower_priority, raise_priority
from proxy.app.sharing import is_shared, share_keys
from proxy.app.spool_watch import watch_spool
from proxy.app.store_keeper import ANSWER_S, FAILURES, StoreKeeper, answer_within
from proxy.app.telemetry import ControllerMetrics
from proxy.app.timekeeping import Timekeeper
from proxy.app.troubles import Troubles
from proxy.clock import AdjustedClock
from proxy.config.authorities import trusting
from proxy.errors import ConfigError
from proxy.ids import KeyRing, RecordIds
from proxy.ingest import IngestMetrics, Ingestor
from proxy.limits import Guesses
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.install import BaseModel, first_model
from proxy.loop.adapters.deployers.health import trusts_unseen
from proxy.spool import SpoolReader
from proxy.status import Status
from proxy.store.store import Store
from proxy.tasks import cancel_and_wait, spawn
from proxy.web.admin import AdminServices, create_admin_app
from proxy.web.console import with_console

__all__ = ["SWITCH_S", "Controller", "main"]

SWITCH_S: Final = 5e-4
"""After so long a thread that computes (a dataset build) leaves the interpreter to the event loop, if that waits for
it. Python's 5 ms would be paid at every step of the loop."""
_SAMPLE_S: Final = 2.0
_MODELS_EVERY: Final = 5
_ORPHANS_PARTS_S: Final = 1.0
"""For ingest and the loop to come to an end where the supervisor is gone: another controller may be waiting."""
_ORPHAN_S: Final = 5.0
"""Behind the drain, for what workers wrote last; then a controller without a supervisor is ended, come what may."""
_FIRST_PASS_S: Final = 60.0

_log = logging.getLogger(__name__)


def main() -> int:
    """Run this process as the controller; returns its exit status."""
    settings, parent_pipe = receive_inheritance()
    configure_logging(settings.config.telemetry, settings.name)
    sys.setswitchinterval(SWITCH_S)
    lower_priority(settings.config.server.controller_nice)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Controller(settings).run(parent_pipe))
    except ConfigError as exc:
        _log.error("%s", exc)
        return EXIT_CONFIG


class Controller:
    """The controller process: what it owns, and its tasks."""

    def __init__(self, settings: Inheritance) -> None:
        self._config = settings.config
        self._admin_fd = settings.listen_fd
        self._supervisor = settings.supervisor
        self._origins = settings.origins
        self._clock = AdjustedClock()
        self._data = DataDir.of(self._config)
        self._time = Timekeeper(self._data.host_clock, self._clock)
        self._keys = KeyRing.load_or_create(self._data.keys, self._clock, spare=settings.spare_keys)
        self._metrics = ControllerMetrics(
            self._data, self._config.telemetry, self._clock, spool_max_bytes=self._config.spool.max_bytes
        )
        self._metrics.traffic.set_models({0: self._config.champion.name})
        self._throttled = ThrottledLog(_log, self._clock)
        self._parts = Parts(self._throttled)
        self._troubles = Troubles(self._clock)
        self._metrics.registry.register(self._troubles)
        may_ask = not trusts_unseen(self._config.deployer)
        self._champion = ChampionWatch(self._config, self._data, self._clock, self._troubles, self._keys, asks=may_ask)
        self._metrics.registry.register(self._champion)
        self._heartbeat = ReplicaHeartbeat(self._data, self._clock)
        self._keeper = StoreKeeper(self._config, self._data, self._metrics, self._troubles, self._clock)
        self._loop_service = LoopService(
            self._config,
            self._metrics.registry,
            self._clock,
            self._troubles,
            lambda: self._heartbeat.replicas,
        )
        self._judging = Judging(
            self._config.judge, self._metrics.registry, self._clock, trusting(self._config.champion.ca_file)
        )
        self._votes = OwnVotes(self._config, self._data.spool, RecordIds(self._keys), self._clock)
        self._telemetry = TelemetryOut(
            self._config,
            self._metrics.registry,
            self._clock,
            SpoolReader(self._data.spool),
            lambda: self._heartbeat.replicas,
        )
        self._ingestor: Ingestor | None = None
        self._ingest_metrics = IngestMetrics(self._metrics.registry)
        self._open_webui = OpenWebUILink(
            self._config,
            self._data.open_webui_bell,
            self._clock,
            self._troubles,
            self._metrics.traffic,
            self._ingest_metrics,
            leading=lambda: self._loop_service.leading,
        )
        self._archive_metrics = ArchiveMetrics(self._metrics.registry, self._config.store.archive, self._clock)
        self._positions: dict[str, tuple[int, int]] = {}
        """How far each spool was stored when the store last said so."""
        self._store: Store | None = None

    async def run(self, parent_pipe: int) -> int:
        """Work until told to stop, then store what is left in the spool; returns the exit status."""
        shutdown = ShutdownSignal(parent_pipe, orphan_s=self._config.server.drain_seconds + _ORPHAN_S)
        stop = shutdown.stop
        async with AsyncExitStack() as stack:
            app = create_admin_app(self._services())
            await stack.enter_async_context(admin_port(app, self._config, self._admin_fd, shutdown, self._troubles))
            watching = [
                self._parts.start("champion", self._champion.run, stop),
                spawn(watch_clock(self._metrics.clock_jumped), name="watch the clock"),
                spawn(watch_spool(self._data.run, self._troubles), name="watch the spool"),
            ]
            stack.push_async_callback(cancel_and_wait, watching)
            lock = ControllerLock(self._data.run / "controller.lock", self._supervisor, self._clock)
            overdue_s = self._config.server.drain_seconds + 2 * _ORPHAN_S
            store_health = self._keeper.health
            if not await lock.take(
                stop, stack, overdue_s=overdue_s, waits=store_health.starting, fails=store_health.kept_from_starting
            ):
                return 0
            if (store := await self._keeper.open(stop)) is None:
                return 0
            stack.push_async_callback(store.close)
            await self._work(store, shutdown)
        self._parts.raise_unusable()
        return 0

    async def _work(self, store: Store, shutdown: ShutdownSignal) -> None:
        await self._agree_on_time(store)
        reader = SpoolReader(self._data.spool, keep_s=self._config.spool.keep_seconds, clock=self._clock)
        ingestor = self._ingestor = Ingestor(
            self._config,
            store,
            reader,
            self._metrics.traffic,
            self._clock,
            metrics=self._ingest_metrics,
            user_hash=self._keys.user_hash,
            first_model=lambda: self._first_model(store),
            on_gap=self._keeper.went_back,
            on_hurry=raise_priority,
            told=self._keeper.ingest_reported,
        )
        self._store = store
        leave_batches()
        async with serve_names(self._data.names, store.ingest.ambiguous):
            await self._run_parts(store, ingestor, shutdown)

    async def _first_model(self, store: Store) -> int:
        """The configured champion's id, for records of a time when no worker knew it."""
        return (await first_model(store, BaseModel.of(self._config.champion))).id

    async def _run_parts(self, store: Store, ingestor: Ingestor, shutdown: ShutdownSignal) -> None:
        stop, start = shutdown.stop, self._parts.start
        parts = [
            start("ingest", lambda: ingestor.run(stop), stop),
            start("loop", lambda: self._run_loop(store, stop), stop),
            start("database", lambda: self._keeper.watch(store), stop),
            start("samples", lambda: self._sample(store), stop),
            start("retention", lambda: self._prune(store), stop),
            start("deletions", lambda: self._delete_users(store), stop),
        ]
        if self._config.feedback.open_webui.url is not None:
            parts.append(start("open webui", lambda: self._open_webui.run(store), stop))
        if self._config.judge.kind != "none":
            parts.append(start("judge", lambda: self._judge(store), stop))
        if self._config.telemetry.otlp_endpoint is not None:
            parts.append(start("telemetry", lambda: self._export(store, stop), stop))
        await stop.wait()
        _log.info("storing the rest of the spool")
        await self._votes.close()
        await asyncio.wait(parts[:2], timeout=_ORPHANS_PARTS_S if shutdown.orphaned else FLUSH_S)
        await cancel_and_wait(parts)
        drain_s = self._config.server.drain_seconds
        await LastFlush(self._data, self._supervisor, ingestor, shutdown).run(drain_s)

    async def _run_loop(self, store: Store, stop: asyncio.Event) -> None:
        """The loop, begun anew where the database is another one: what it remembers of rows is no longer so."""
        self._keeper.replaced.clear()
        limit = asyncio.timeout(None)
        watching = spawn(self._end_when_replaced(limit), name="wait for another database")
        try:
            async with limit:
                await self._loop_service.run(store, stop)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            await cancel_and_wait([watching])

    async def _end_when_replaced(self, limit: asyncio.Timeout) -> None:
        await self._keeper.replaced.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    async def _sample(self, store: Store) -> None:
        """Keep the gauges of spool and store fresh, and the other replicas informed."""
        reader = SpoolReader(self._data.spool)
        round_ = 0
        while True:
            try:
                async with self._keeper.answer(ANSWER_S):
                    self._positions = await store.spools.positions()
            finally:  # while the store is away, what waits grows, and whoever looks must see that
                usage = await asyncio.to_thread(reader.usage, self._positions)
                self._metrics.set_spool(usage)
            if is_shared(self._config):
                async with self._keeper.answer(ANSWER_S):
                    await self._heartbeat.beat(store, usage, leader=self._loop_service.leading)
                self._keeper.health.report_write()
                await self._agree_on_time(store)
                await self._share_keys(store)
            await self._keeper.prove(store)
            if round_ % _MODELS_EVERY == 0:
                size = await store.samples.size()
                self._metrics.set_store_size(size.bytes, size.records)
            await self._keep_credentials(store)
            models = {model.id: model.name for model in await store.models.list()}
            self._metrics.traffic.set_models({0: self._config.champion.name} | models)
            self._reload_keys()
            if self._ingestor is None or not self._ingestor.feeding_again:
                self._keeper.health.resolve("again")
            self._keeper.health.publish()
            round_ += 1
            await asyncio.sleep(_SAMPLE_S)

    async def _keep_credentials(self, store: Store) -> None:
        try:
            await keep_credentials(store, self._data.credentials)
        except OSError as exc:
            self._throttled.error("credentials", "API keys of challengers cannot be written for the workers: %s", exc)
        else:
            self._throttled.over("credentials")

    def _reload_keys(self) -> None:
        try:
            self._keys.reload()
        except (OSError, ValueError) as exc:
            self._troubles.report("keys", key_trouble(self._keys, exc))
        else:
            self._troubles.over("keys", "the key ring can be read again")

    async def _agree_on_time(self, store: Store) -> None:
        """Before the loop decides anything, and every few seconds."""
        try:
            if is_shared(self._config):
                async with answer_within(ANSWER_S):
                    await self._time.compare(store)
            else:
                self._time.forget()
        except FAILURES as exc:
            self._throttled.warning("time", "the database's time cannot be read, this host keeps its clock: %s", exc)
        else:
            self._throttled.over("time")
        self._metrics.set_clock(self._clock.ahead_s)

    async def _share_keys(self, store: Store) -> None:
        if self._data.keys_file is None:
            try:
                await share_keys(self._keys, store)
            except (OSError, ValueError) as exc:
                self._throttled.error("share", "the key ring cannot be shared: %s", exc)
            else:
                self._throttled.over("share")

    async def _prune(self, store: Store) -> None:
        """Archive what is finished, forget what is too old or too much."""
        housekeeping = Housekeeping(
            self._config.store, store, self._clock, self._archive_metrics, training_dir=self._config.training_dir
        )
        interval_s = self._config.store.retention.interval_seconds
        delay_s = min(interval_s, _FIRST_PASS_S)  # also where nothing runs for a whole interval
        while True:
            await asyncio.sleep(delay_s)
            await housekeeping.run_once()
            delay_s = interval_s

    async def _judge(self, store: Store) -> None:
        """Have finished records judged."""
        await self._judging.run(store, replica_id(self._data.replica_id))

    async def _export(self, store: Store, stop: asyncio.Event) -> None:
        """Send telemetry; where it cannot be sent, there is nothing to do until the end."""
        await self._telemetry.run(store, replica_id(self._data.replica_id))
        await stop.wait()

    async def _delete_users(self, store: Store) -> None:
        """Do this host's part of deletions."""
        await HostDeletion(self._data, self._config.training_dir, store, self._clock).run()

    def _services(self) -> AdminServices:
        services = AdminServices(
            config=self._config,
            clock=self._clock,
            keys=self._keys,
            metrics=self._metrics.render,
            status=self._status,
            health=self._health,
            store=lambda: self._store,
            submit=self._loop_service.submit,
            explain=self._loop_service.explain,
            history=self._loop_service.history,
            guesses=Guesses(self._clock, count=self._metrics.refused_token),
            vote=self._votes.write,
            origins=self._origins,
            listening=lambda: asyncio.to_thread(public_address, self._data),
        )
        return with_console(services, self._config.training_dir)

    async def _status(self) -> Status:
        status = self._champion.into(await self._loop_service.status())
        status = replace(status, judge=self._judging.status)
        return replace(status, notes=(*status.notes, *self._keeper.notes, *open_to_others(self._config)))

    def _health(self) -> dict[str, Any]:
        troubles = self._troubles
        if not troubles.known:
            return {"status": "ok"}
        return {
            "status": "degraded",
            "reason": troubles.first,
            "troubles": troubles.document(),
            "champion": self._champion.document(),
        }
