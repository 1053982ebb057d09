"""The controller: moves the spool into the store, runs the loop, answers on the admin port.

Nothing here is needed to serve: it may be killed, upgraded, or wait for its database, and traffic does not notice.
The admin port opens first and stays open while the store is away, so that /metrics and /health can say so. Each part is
a task of its own that is started again when it fails; none takes another down.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

import uvloop

from proxy.app.admin_port import admin_port
from proxy.app.champion import ChampionWatch
from proxy.app.child import EXIT_CONFIG, Inheritance, receive_inheritance
from proxy.app.clock_jumps import watch_clock
from proxy.app.follow import key_trouble
from proxy.app.forgetting import Forgetting
from proxy.app.housekeeping import ArchiveMetrics, Housekeeping
from proxy.app.learning import Learning
from proxy.app.lifeline import Told
from proxy.app.logs import configure_logging
from proxy.app.names import serve_names
from proxy.app.paths import DataDir, open_to_others
from proxy.app.presence import Presence
from proxy.app.priority import give_way
from proxy.app.reach import Reach
from proxy.app.sharing import is_shared, share_keys
from proxy.app.spool_watch import watch_spool
from proxy.app.store_health import StoreHealth
from proxy.app.telemetry import ControllerMetrics
from proxy.app.timekeeping import Timekeeper
from proxy.app.troubles import Troubles
from proxy.clock import AdjustedClock
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.ids import KeyRing
from proxy.ingest import Gap, IngestMetrics, Ingestor
from proxy.limits import Guesses
from proxy.log_throttle import ThrottledLog
from proxy.loop.deployers.health import trusts_unseen
from proxy.loop.install import BaseModel, first_model
from proxy.spool import SpoolReader, is_alive, writers_of
from proxy.store.store import Store
from proxy.tasks import cancel_and_wait, spawn
from proxy.web.admin import AdminServices, create_admin_app
from proxy.web.console import with_console

__all__ = ["SWITCH_S", "Controller", "leave_garbage", "main"]

SWITCH_S: Final = 5e-4
"""After so long a thread that computes (a dataset build) leaves the interpreter to the event loop, if that waits for
it. Python's 5 ms would be paid at every step of the loop."""
_SAMPLE_S: Final = 2.0
_WATCH_S: Final = 0.5
"""Between two looks at SQLite's files."""
_MOST_NOTES: Final = 8
_NOTED_S: Final = 86_400.0
_ANSWER_S: Final = 10.0
_MODELS_EVERY: Final = 5
_PROOF_S: Final = 30.0
"""Longer than a batch, or a pass of retention, holds the one connection that writes to SQLite."""
_STORE_DELAYS_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_LONGEST_RETRY_S: Final = 5.0
_FLUSH_S: Final = 10.0
_FLUSH_STEP_S: Final = 0.05
_ORPHANS_PARTS_S: Final = 1.0
"""For ingest and the loop to come to an end where the supervisor is gone: another controller may be waiting."""
_ORPHANS_FLUSH_S: Final = 3.5
_ORPHAN_S: Final = 5.0
"""Behind the drain, for what workers wrote last; then a controller without a supervisor is ended, come what may."""
_YOUNG_OBJECTS: Final = 50_000
_FIRST_PASS_S: Final = 60.0

_FAILURES: Final = (TemporaryError, PermanentError, OSError)
"""What a database, or the disk, says, in words for a person."""

_log = logging.getLogger(__name__)


def main() -> int:
    """Run this process as the controller; returns its exit status."""
    settings, lifeline = receive_inheritance()
    configure_logging(settings.config.telemetry, settings.name)
    sys.setswitchinterval(SWITCH_S)
    give_way(settings.config.server.controller_nice)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Controller(settings).run(lifeline))
    except ConfigError as exc:
        _log.error("%s", exc)
        return EXIT_CONFIG


class Controller:
    """What the controller process holds."""

    def __init__(self, settings: Inheritance) -> None:
        self._config = settings.config
        self._admin_fd = settings.listen_fd
        self._supervisor = settings.supervisor
        self._clock = AdjustedClock()
        self._data = DataDir.of(self._config)
        self._time = Timekeeper(self._data.host_clock, self._clock)
        self._keys = KeyRing.load_or_create(self._data.keys, self._clock, spare=settings.spare_keys)
        self._metrics = ControllerMetrics(
            self._data, self._config.telemetry, self._clock, spool_max_bytes=self._config.spool.max_bytes
        )
        self._metrics.traffic.set_models({0: self._config.champion.name})
        self._said = ThrottledLog(_log, self._clock)
        self._troubles = Troubles(self._clock)
        self._metrics.registry.register(self._troubles)
        may_ask = not trusts_unseen(self._config.deployer)
        self._champion = ChampionWatch(self._config, self._data, self._clock, self._troubles, self._keys, asks=may_ask)
        self._metrics.registry.register(self._champion)
        self._presence = Presence(self._data, self._clock)
        self._health_of_store = StoreHealth(
            self._troubles, Reach(self._data.reach), self._metrics.set_store_up, self._clock
        )
        self._learning = Learning(
            self._config,
            self._metrics.registry,
            self._clock,
            self._troubles,
            lambda: self._presence.replicas,
        )
        self._said = ThrottledLog(_log, self._clock)
        self._notes: deque[tuple[float, str]] = deque(maxlen=_MOST_NOTES)
        """What became of the database lately: when (Unix seconds), and a sentence for /status."""
        self._replaced = asyncio.Event()
        """The database is another one than before: the loop begins anew on it."""
        self._ingestor: Ingestor | None = None
        self._ingest_metrics = IngestMetrics(self._metrics.registry)
        self._archive_metrics = ArchiveMetrics(self._metrics.registry, self._config.store.archive, self._clock)
        self._positions: dict[str, tuple[int, int]] = {}
        """How far each spool was stored when the store last said so."""
        self._store: Store | None = None
        self._unusable: ConfigError | None = None

    async def run(self, lifeline: int) -> int:
        """Work until told to stop, then store what is left in the spool; returns the exit status."""
        told = Told(lifeline, orphan_s=self._config.server.drain_seconds + _ORPHAN_S)
        stop = told.stop
        async with AsyncExitStack() as stack:
            app = create_admin_app(self._services())
            await stack.enter_async_context(admin_port(app, self._config, self._admin_fd, told, self._troubles))
            watching = [
                spawn(self._keep("champion", self._champion.run, stop), name="champion"),
                spawn(watch_clock(self._metrics.clock_jumped), name="watch the clock"),
                spawn(watch_spool(self._data.run, self._troubles), name="watch the spool"),
            ]
            stack.push_async_callback(cancel_and_wait, watching)
            if not await self._claim(stop, stack) or (store := await self._open_store(stop)) is None:
                return 0
            stack.push_async_callback(store.close)
            await self._work(store, told)
        if self._unusable is not None:
            raise self._unusable
        return 0

    async def _work(self, store: Store, told: Told) -> None:
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
            on_gap=self._went_back,
            told=self._ingest_told,
        )
        self._store = store
        leave_garbage()
        async with serve_names(self._data.names, store.ambiguous):
            await self._keep_at_it(store, ingestor, told)

    async def _first_model(self, store: Store) -> int:
        """The configured champion's id, for records of a time when no worker knew it."""
        return (await first_model(store, BaseModel.of(self._config.champion))).id

    async def _keep_at_it(self, store: Store, ingestor: Ingestor, told: Told) -> None:
        stop = told.stop
        parts = [
            spawn(self._keep("ingest", lambda: ingestor.run(stop), stop), name="ingest"),
            spawn(self._keep("loop", lambda: self._learn(store, stop), stop), name="loop"),
            spawn(self._keep("database", lambda: self._watch(store), stop), name="database"),
            spawn(self._keep("samples", lambda: self._sample(store), stop), name="samples"),
            spawn(self._keep("retention", lambda: self._prune(store), stop), name="retention"),
            spawn(self._keep("deletions", lambda: self._forget(store), stop), name="deletions"),
        ]
        await stop.wait()
        _log.info("storing what is left in the spool")
        await asyncio.wait(parts[:2], timeout=_ORPHANS_PARTS_S if told.orphaned else _FLUSH_S)
        await cancel_and_wait(parts)
        await self._flush(ingestor, told)

    async def _learn(self, store: Store, stop: asyncio.Event) -> None:
        """The loop, begun anew where the database is another one: what it remembers of rows is no longer so."""
        self._replaced.clear()
        parts = [
            spawn(self._learning.run(store, stop), name="loop on this database"),
            spawn(self._replaced.wait(), name="wait for another database"),
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if parts[0].done():
                parts[0].result()
        finally:
            await cancel_and_wait(parts)

    async def _watch(self, store: Store) -> None:
        """Notice files that are gone at once, and tables that are gone soon; have both again."""
        looked_at = float("-inf")
        while True:
            lost = store.lost_file()
            if lost is not None or self._clock.monotonic() - looked_at >= _SAMPLE_S:
                if lost is not None:
                    self._health_of_store.wrong("files", f"{lost} was removed or replaced; what is there is opened")
                looked_at = self._clock.monotonic()
                if wrong := await store.mend():
                    self._metrics.store_replaced()
                    self._note(f"{wrong}; it was set up anew, and is filled with what the spool keeps")
                    self._replaced.set()
                self._health_of_store.right("files")
            await asyncio.sleep(_WATCH_S)

    def _went_back(self, gap: Gap) -> None:
        """The database has less than it had: say what is fed again, and what cannot be."""
        text = "the database had less than was stored in it, as after a fail-over or a restored backup: " \
               f"{gap.again:,} requests and votes are fed again from the spool"  # fmt: skip
        if gap.lost:
            since = f" (from {_instant(gap.since_us / 1e6)} on)" if gap.since_us else ""
            text += f"; {gap.lost:,}{since} cannot be: their segments are gone (spool.keep_seconds)"
        self._health_of_store.wrong("again", text)
        self._note(text)
        self._replaced.set()

    def _note(self, text: str) -> None:
        _log.warning("store: %s", text)
        self._notes.append((self._clock.now(), text))

    async def _claim(self, stop: asyncio.Event, stack: AsyncExitStack) -> bool:
        """Wait until no other controller of this directory is still flushing; False when told to stop first."""
        descriptor = -1
        while True:
            try:
                if descriptor < 0:
                    descriptor = os.open(self._data.run / "controller.lock", os.O_RDWR | os.O_CREAT, 0o600)
                    stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._health_of_store.begins("an earlier controller is still finishing")
            except OSError as exc:
                self._health_of_store.begins(f"the data directory cannot be written: {exc}")
            else:
                return True
            if stop.is_set():
                return False
            await _pause(stop, 0.1)

    async def _open_store(self, stop: asyncio.Event) -> Store | None:
        """The store, however long it takes to come up; None when told to stop first. Tried once in any case.

        Whatever a database says is no reason to end: somebody will see to it, and meanwhile records wait.
        """
        attempt = 0
        while True:
            try:
                store = await self._try_to_open()
            except _FAILURES as exc:
                self._health_of_store.wrong("start", exc)
            else:
                return store
            delay_s = _STORE_DELAYS_S[min(attempt, len(_STORE_DELAYS_S) - 1)]
            attempt += 1
            await _pause(stop, delay_s)
            if stop.is_set():
                return None

    async def _try_to_open(self) -> Store:
        settings = self._config.store
        store = await Store.open(
            self._data.store_url(self._config),
            clock=self._clock,
            pool_size=settings.pool_size,
            listen_url=settings.listen_url,
        )
        try:
            async with _answer_within(_ANSWER_S):
                await store.prove()
        except BaseException:
            await store.close()
            raise
        store.watch(self._health_of_store.heard)
        self._health_of_store.written()
        return store

    def _ingest_told(self, exc: TemporaryError | PermanentError | OSError | None, *, wrote: bool) -> None:
        """How the last round of ingest went."""
        if exc is None:
            self._health_of_store.right("ingest")
        else:
            unread = f"not all of the spool can be read and tidied up ({exc})"
            self._health_of_store.wrong("ingest", unread if isinstance(exc, OSError) else exc)
        if wrote:
            self._health_of_store.written()

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        """Run a part until told to stop; one that fails is logged and started again."""
        while not stop.is_set():
            try:
                await part()
            except (TemporaryError, PermanentError) as exc:
                self._said.warning(name, "%s waits: %s", name, exc)
                await _pause(stop, min(getattr(exc, "retry_after_s", _LONGEST_RETRY_S), _LONGEST_RETRY_S))
            except ConfigError as exc:
                self._unusable = exc
                stop.set()
            except Exception as exc:  # noqa: BLE001 - a part is an edge: whatever it did wrong, the others go on
                self._said.exception((name, type(exc)), "%s failed; it is started again in a second", name)
                await _pause(stop, 1.0)

    async def _sample(self, store: Store) -> None:
        """Keep the gauges of spool and store fresh, and the other replicas informed."""
        reader = SpoolReader(self._data.spool)
        round_ = 0
        while True:
            try:
                async with self._answer(_ANSWER_S):
                    self._positions = await store.spools.positions()
            finally:  # while the store is away, what waits grows, and whoever looks must see that
                usage = await asyncio.to_thread(reader.usage, self._positions)
                self._metrics.set_spool(usage)
            if is_shared(self._config):
                async with self._answer(_ANSWER_S):
                    await self._presence.beat(store, usage, leader=self._learning.leading)
                self._health_of_store.written()
                await self._agree_on_time(store)
                await self._share_keys(store)
            await self._prove(store)
            if round_ % _MODELS_EVERY == 0:
                size = await store.size()
                self._metrics.set_store_size(size.bytes, size.records)
            models = {model.id: model.name for model in await store.models.list()}
            self._metrics.traffic.set_models({0: self._config.champion.name} | models)
            self._follow_keys()
            if self._ingestor is None or not self._ingestor.feeding_again:
                self._health_of_store.right("again")
            self._health_of_store.tell()
            round_ += 1
            await asyncio.sleep(_SAMPLE_S)

    async def _prove(self, store: Store) -> None:
        """Where nothing was written for a while, or something is wrong: see whether writing works."""
        if self._health_of_store.to_be_proven:
            async with self._answer(_PROOF_S):
                await store.prove()
            self._health_of_store.written()

    @asynccontextmanager
    async def _answer(self, seconds: float) -> AsyncIterator[None]:
        """A database that says nothing is as good as gone, and that is a trouble. Raises TemporaryError."""
        try:
            async with _answer_within(seconds):
                yield
        except TemporaryError as exc:
            self._health_of_store.heard(exc)
            raise

    def _follow_keys(self) -> None:
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
                async with _answer_within(_ANSWER_S):
                    await self._time.compare(store)
            else:
                self._time.forget()
        except _FAILURES as exc:
            self._said.warning("time", "this host goes on by the time that it has: %s", exc)
        else:
            self._said.over("time")
        self._metrics.set_clock(self._clock.ahead_s)

    async def _share_keys(self, store: Store) -> None:
        if self._data.keys_file is None:
            try:
                await share_keys(self._keys, store)
            except (OSError, ValueError) as exc:
                self._said.error("share", "the key ring cannot be shared: %s", exc)
            else:
                self._said.over("share")

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

    async def _forget(self, store: Store) -> None:
        """Do this host's part of deletions."""
        await Forgetting(self._data, self._config.training_dir, store, self._clock).run()

    async def _flush(self, ingestor: Ingestor, told: Told) -> None:
        """Store what workers wrote to the end. Where the supervisor was killed, they are only now draining."""
        limit_s = self._config.server.drain_seconds + _ORPHANS_FLUSH_S if told.orphaned else _FLUSH_S
        try:
            async with asyncio.timeout(limit_s):
                await self._store_to_the_end(ingestor, told)
        except TimeoutError:
            _log.warning("after %g s the spool keeps what is not stored yet; the next start goes on with it", limit_s)

    async def _store_to_the_end(self, ingestor: Ingestor, told: Told) -> None:
        try:
            while True:
                if told.orphaned and self._succeeded():
                    return  # it stores the rest, also what orphans are still writing
                more_may_come = told.orphaned and self._workers_live()  # asked before the spool is read
                if not await ingestor.run_once() and not more_may_come:
                    return
                await asyncio.sleep(_FLUSH_STEP_S)
        except _FAILURES as exc:
            _log.warning("the spool keeps what could not be stored: %s", exc)

    def _succeeded(self) -> bool:
        """Whether another supervisor has taken this directory over, so that its controller waits for us to end."""
        try:
            return int(self._data.pid("supervisor").read_text()) != self._supervisor
        except (OSError, ValueError):
            return False

    def _workers_live(self) -> bool:
        return any(is_alive(self._data.spool / writer) for writer in writers_of(self._data.spool))

    def _services(self) -> AdminServices:
        services = AdminServices(
            config=self._config,
            clock=self._clock,
            keys=self._keys,
            metrics=self._metrics.render,
            status=self._status,
            health=self._health,
            store=lambda: self._store,
            submit=self._learning.submit,
            explain=self._learning.explain,
            history=self._learning.history,
            guesses=Guesses(self._clock, count=self._metrics.refused_token),
        )
        return with_console(services, self._config.training_dir)

    async def _status(self) -> dict[str, Any]:
        document = self._champion.into(await self._learning.status())
        now = self._clock.now()
        lately = [f"{_instant(at)}: {text}" for at, text in self._notes if now - at < _NOTED_S]
        return document | {"notes": [*document.get("notes", ()), *lately, *open_to_others(self._config)]}

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


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")


def leave_garbage() -> None:
    """Have the garbage collector look less often, and no more at what has been loaded by now, for that stays anyway.

    A batch makes tens of thousands of objects and frees them all without its help. With Python's own settings it spent
    a tenth of ingest's time on looking through them, and through all modules.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, unless told to stop meanwhile."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


@asynccontextmanager
async def _answer_within(seconds: float) -> AsyncIterator[None]:
    """A database that says nothing is as good as gone. Raises TemporaryError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise TemporaryError(f"store: no answer within {seconds:g} s", retry_after_s=1.0) from exc
