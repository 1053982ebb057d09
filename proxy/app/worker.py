"""One worker: the gateway on the public port, its spool, and the side app for `/-/`. No database, no loop.

It starts in this order because a client may be waiting: what forwarding needs, then accept, then the web framework
behind `/-/`, which takes longer to import than everything else together.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import resource
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import uvloop

from proxy.app.alias_check import ask_names
from proxy.app.boot import configured_champion
from proxy.app.child import EXIT_CONFIG, Inheritance, receive_inheritance
from proxy.app.counters import WORKER_COUNTERS
from proxy.app.file_watch import Routes, follow_credentials, follow_files
from proxy.app.garbage import leave_loaded
from proxy.app.logs import configure_logging
from proxy.app.parent_pipe import ShutdownSignal
from proxy.app.paths import DataDir
from proxy.app.sockets import listen_unix, short_path
from proxy.app.store_health_file import read_store_health
from proxy.app.timekeeping import follow_time
from proxy.app.turns import take_short_turns
from proxy.clock import AdjustedClock
from proxy.config.model import Config
from proxy.config.own_tls import client_tls
from proxy.credentials import CredentialFile
from proxy.errors import ConfigError
from proxy.gateway.gateway import Gateway
from proxy.ids import KeyRing, RecordIds
from proxy.log_throttle import ThrottledLog
from proxy.metrics.shared import SharedCounters
from proxy.private import make_folder
from proxy.routes import RouteTable
from proxy.spool.writer import SpoolTrouble, SpoolWriter
from proxy.tasks import cancel_and_wait, spawn

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from proxy.app.web_server import WebServer
    from proxy.cleaning.cleaner import Cleaner

__all__ = ["Worker", "allow_files", "main"]

_BACKLOG: Final = 4096
_OTHER_FILES: Final = 256
_SIDE_RETRY_S: Final = 1.0
_GRACE_S: Final = 3.0
"""As long as the supervisor would wait behind the drain."""
_SIDE_STOP_S: Final = 0.5
_CLEANED_S: Final = 1.5
"""For what is still being cleaned behind the drain."""

_log = logging.getLogger(__name__)


def main() -> int:
    """Run this process as a worker; returns its exit status."""
    settings, parent_pipe = receive_inheritance()
    configure_logging(settings.config.telemetry, settings.name)
    allow_files(settings.config.gateway.max_connections)
    take_short_turns()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Worker(settings).run(parent_pipe))
    except ConfigError as exc:
        _log.error("%s", exc)
        return EXIT_CONFIG


def allow_files(connections: int) -> None:
    """Have room for so many clients, each with a connection to a model: the usual soft limit of 1,024 files has not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < connections:
        _log.warning("the limit of open files (ulimit -Hn) is %d, less than gateway.max_connections (%d)",
                     hard, connections)  # fmt: skip


class Worker:
    """One worker process: what it owns, and the servers that it runs."""

    def __init__(self, settings: Inheritance) -> None:
        """Open what forwarding needs. Raises ConfigError for settings that cannot work, OSError for the disk."""
        self._config = config = settings.config
        self._listen_fd = settings.listen_fd
        self._clock = AdjustedClock()
        self._throttled = ThrottledLog(_log, self._clock)
        self._data = DataDir.of(config)
        follow_time(self._data.host_clock, self._clock)
        self._keys = KeyRing.load_or_create(self._data.keys, self._clock, spare=settings.spare_keys)
        self._ids = RecordIds(self._keys)
        self._counters = SharedCounters(self._data.stats(settings.index), WORKER_COUNTERS)
        self._spool = SpoolWriter(
            self._data.spool,
            config.spool,
            index=settings.index,
            clock=self._clock,
            on_drop=lambda reason: self._counters.add(f'not_recorded_total{{reason="{reason}"}}'),
            on_sync_error=lambda: self._counters.add("spool_sync_errors_total"),
            on_vanished=self._vanished,
            on_trouble=self._unwell,
        )
        self._routes = Routes(self._data.routes, RouteTable(version=0, champion=configured_champion(config)))
        self._credentials = CredentialFile(self._data.credentials, config.champion)
        follow_credentials(self._credentials, self._routes, self._throttled)
        self._side_path = short_path(self._data.socket(settings.index))
        self._tls = client_tls(config)
        self._cleaner = _cleaner(config, self._counters)
        if config.capture.redaction.engine == "python" and settings.index == 0:
            threading.Thread(target=_time_patterns, args=(config,), name="time patterns", daemon=True).start()
        self._draining = False
        self._side: WebServer | None = None

    async def run(self, parent_pipe: int) -> int:
        """Serve until told to stop, then drain; returns the exit status."""
        shutdown = ShutdownSignal(parent_pipe, orphan_s=self._config.server.drain_seconds + _GRACE_S)
        gateway = self._gateway()
        listener = self._listen_side()  # before the first client: a vote waits for the side app, it is not refused
        public = socket.socket(fileno=self._listen_fd)
        leave_loaded()
        server = await asyncio.get_running_loop().create_server(
            gateway.protocol_factory, sock=public, ssl=self._tls, backlog=_BACKLOG
        )
        shutdown.guard(public, server.close)
        following = spawn(
            follow_files(
                self._routes,
                self._keys,
                self._credentials,
                self._clock,
                self._data.host_clock,
                show=self._counters.show,
            ),
            name="follow files",
        )
        side = spawn(self._serve_side(listener), name="serve the side app")
        host, port = server.sockets[0].getsockname()[:2]
        _log.info("accepting on %s port %d", host, port)
        await shutdown.stop.wait()
        self._draining = True
        server.close()
        finished = await gateway.drain(self._config.server.drain_seconds)
        if not finished:
            _log.warning("requests still open after %g s were cut off", self._config.server.drain_seconds)
        await gateway.close()
        await cancel_and_wait([following, side])
        await self._stop_side(listener)
        if self._cleaner is not None:
            await self._cleaner.close(_CLEANED_S)
        self._spool.close()
        self._counters.close()
        return 0

    async def _stop_side(self, listener: socket.socket | None) -> None:
        """Nobody asks it any more: its only way in was the gateway."""
        if self._side is None:
            if listener is not None:
                listener.close()
            return
        try:
            async with asyncio.timeout(_SIDE_STOP_S):
                await self._side.stop()
        except TimeoutError:
            _log.warning("the side app did not stop in time")

    def _gateway(self) -> Gateway:
        config = self._config
        try:
            return Gateway(
                config,
                routes=lambda: self._routes.table,
                spool=self._spool,
                ids=self._ids,
                user_hash=self._keys.user_hash,
                counters=self._counters,
                side_socket=self._side_path,
                redact=self._cleaner,
                admin_token=config.admin.token,
                credentials=self._credentials.header,
                clock=self._clock,
            )
        except ValueError as exc:
            raise ConfigError(f"the gateway cannot work with these settings: {exc}") from exc

    def _listen_side(self) -> socket.socket | None:
        """The Unix socket of `/-/`, or None where there is no room for it: traffic goes on without."""
        try:
            make_folder(self._data.run)
            return listen_unix(self._side_path)
        except OSError as exc:
            self._throttled.error("side", "%s: %s; trying again", self._side_path, exc)
            return None

    async def _serve_side(self, listener: socket.socket | None) -> None:
        """Import the web framework beside the traffic, then serve `/-/` on this worker's Unix socket until cancelled:
        on a new one where somebody removed it. At the end of a worker its successor has that name."""
        public = await asyncio.to_thread(importlib.import_module, "proxy.web.public")
        web_server = await asyncio.to_thread(importlib.import_module, "proxy.app.web_server")
        script = await asyncio.to_thread(importlib.import_module, "proxy.web.feedback_js")
        bell = await asyncio.to_thread(importlib.import_module, "proxy.web.open_webui.bell")
        await asyncio.to_thread(importlib.import_module, "proxy.wire.rewriting")  # the first rewrite waits for no disk
        leave_loaded()
        app = public.create_public_app(
            self._config,
            self._spool,
            self._ids,
            self._counters,
            self._clock,
            health=self._health,
            ambiguous=ask_names(self._data.names),
            routes=[script.feedback_js_route(), self._bell_route(bell.open_webui_bell)],
            redact=None if self._cleaner is None else self._cleaner.texts,
        )
        while True:
            while listener is None:
                await asyncio.sleep(_SIDE_RETRY_S)
                listener = self._listen_side()
            side: WebServer = web_server.WebServer(app, listener, name="side app")
            await side.start()
            earlier, self._side = self._side, side
            if earlier is not None:
                await earlier.stop()
            while True:
                await asyncio.sleep(_SIDE_RETRY_S)
                if not self._draining and not self._side_path.exists():
                    break
            _log.error("%s was removed while the worker was running: creating it again", self._side_path)
            listener = self._listen_side()

    def _bell_route(self, open_webui_bell: Callable[..., BaseRoute]) -> BaseRoute:
        path = self._data.open_webui_bell

        def ring() -> None:
            try:
                path.touch(mode=0o600)
            except OSError as exc:  # the controller looks anyway, a minute later
                self._throttled.error("bell", "%s: %s", path, exc)

        return open_webui_bell(ring, self._clock, wanted=self._config.feedback.open_webui.url is not None)

    def _vanished(self, frames: int) -> None:
        self._counters.add("spool_vanished_total")
        self._counters.add("spool_lost_frames_total", frames)

    def _unwell(self, now: SpoolTrouble | None, before: SpoolTrouble | None) -> None:
        for what, value in ((before, 0.0), (now, 1.0)):
            if what is not None:
                self._counters.set(f'spool_unwell{{what="{what}"}}', value)

    def _health(self) -> dict[str, Any]:
        return {
            "status": "draining" if self._draining else "ok",
            "pid": os.getpid(),
            "routes_version": self._routes.table.version,
            "spool_full": self._spool.full,
            "spool": self._spool.trouble or "ok",
            **read_store_health(self._data.store_health, self._clock.now()),
        }


def _cleaner(config: Config, counters: SharedCounters) -> Cleaner | None:
    """What cleans captured copies, or None where nothing is configured. Imported only then."""
    if not config.capture.redaction.cleans:
        return None
    from proxy.cleaning.cleaner import Cleaner

    try:
        return Cleaner(config.capture.redaction, counters.add, most_decoded=config.capture.max_decoded_bytes)
    except ValueError as exc:
        raise ConfigError(f"capture.redaction: {exc}") from exc


def _time_patterns(config: Config) -> None:
    """Say which patterns a hostile text can keep busy. Beside everything else: it takes a second or two."""
    from proxy.patterns.probe import slow_patterns

    for pattern in slow_patterns(config.capture.redaction.patterns):
        _log.warning("capture.redaction.patterns: %r takes more than linear time on some texts: with such a text a "
                     'body is stored without its words; rewrite it for engine = "re2"', pattern)  # fmt: skip
