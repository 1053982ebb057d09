"""The supervisor: owns the listening sockets, keeps the other processes alive, does nothing else.

One thread, no event loop, no traffic: it waits for a signal or for the next restart that is due. The sockets are
its own, so a worker that dies loses its open connections and nobody else's, and a client that connects meanwhile waits
in the backlog instead of being refused.

    SIGTERM, SIGINT    drain: workers finish what is open (server.drain_seconds), then the controller stores what is
                       left in the spool; exit 0. A second one ends this at once.
    SIGHUP             read the configuration again; if it is right, replace the workers one by one (new ones accept
                       before the old ones drain) and the controller
    SIGCHLD            start what has died again, after 0.1 s, doubling up to 10 s while it keeps dying
"""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.app.boot import publish_first_routes
from proxy.app.child import EXIT_CONFIG, Child
from proxy.app.directory_lock import DirectoryLock
from proxy.app.first_start import FirstFiles, until_room
from proxy.app.listeners import Listeners, announce, greet
from proxy.app.logs import configure_logging
from proxy.app.paths import DataDir, open_to_others
from proxy.clock import Clock, SystemClock
from proxy.config import check_serving
from proxy.config.checks import weak_tokens
from proxy.config.model import Config
from proxy.errors import ConfigError
from proxy.private import UMASK

__all__ = ["Supervisor", "serve"]

_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_ENDS: Final = (signal.SIGTERM, signal.SIGINT)
_SAME_WISH_S: Final = 1.0
"""Signals that come so soon after the first are the same wish: `timeout` and terminals send them to the whole group of
processes, and whoever started us sends another."""
_BAD_SETTINGS: Final = 3
_HEAD_START_S: Final = 0.3
"""Workers start before the controller: clients may be waiting."""
_GRACE_S: Final = 3.0
_FLUSH_S: Final = 30.0
_NEEDS_RESTART: Final = ("server.host", "server.port", "server.workers", "server.data_dir", "server.keys_file",
                         "admin.enabled", "admin.host", "admin.port")  # fmt: skip

_log = logging.getLogger(__name__)


def serve(
    config: Config,
    reload: Callable[[], Config] | None = None,
    origins: Callable[[], Mapping[str, str]] | None = None,
) -> int:
    """Run until told to stop; returns the exit status. `reload` reads the configuration again, for SIGHUP; `origins`
    says where its settings come from, by path (`proxy.config.load.origins_of`).

    0: stopped on request, everything that was open is finished and stored. 1: the public port or the directory is
    somebody else's and stays so, or something had to be killed on the way out. 3: these settings, files or permissions
    cannot work however often it is started, the log says why. What may be over in a while is waited for, at least for
    so long that a service manager's limit of starts is not reached.
    """
    configure_logging(config.telemetry, "supervisor")
    os.umask(UMASK)
    data, clock = DataDir.of(config), SystemClock()
    try:
        until_room(data.create, clock)
        for concern in (*weak_tokens(config), *open_to_others(config)):
            _log.warning("%s", concern)
        with DirectoryLock(data, clock):
            sockets = Listeners.bind(config, data)
            try:
                files = FirstFiles(config, data, clock, announce=lambda: announce(config, data, sockets))
                files.write()
                greet(config, data, sockets)
                return Supervisor(config, sockets, files=files, reload=reload, origins=origins).run()
            finally:
                sockets.close()
    except (PermissionError, NotADirectoryError, FileExistsError, ValueError) as exc:
        _log.error("cannot serve: %s", exc)
        return _BAD_SETTINGS
    except OSError as exc:
        _log.error("cannot serve: %s", exc)
        return 1


class Supervisor:
    """The children of one `ratchet serve`."""

    def __init__(
        self,
        config: Config,
        sockets: Listeners,
        *,
        files: FirstFiles,
        reload: Callable[[], Config] | None = None,
        origins: Callable[[], Mapping[str, str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._origins = origins
        self._sockets = sockets
        self._files = files
        self._reload = reload
        self._clock: Clock = clock or SystemClock()
        data = DataDir.of(config)
        public_fd = sockets.public.fileno()
        admin_fd = sockets.admin.fileno() if sockets.admin is not None else None
        self._workers = [
            Child(f"worker-{n}", "worker", index=n, listen_fd=public_fd, clock=self._clock, pid=data.pid(f"worker-{n}"))
            for n in range(config.server.workers)
        ]
        self._controller = Child(
            "controller", "controller", index=0, listen_fd=admin_fd, clock=self._clock, pid=data.pid("controller")
        )
        self._controller.due_at = self._clock.monotonic() + _HEAD_START_S
        self._tell_origins()
        self._replaced: list[_Replaced] = []
        self._fatal = False
        self._reloaded = False
        self._draining = False
        self._patient_until = 0.0
        """Monotonic; from then on another signal means that the end is not to be waited for."""

    def _tell_origins(self) -> None:
        """The controller shows them; where they cannot be read any more it shows none."""
        try:
            self._controller.origins = {} if self._origins is None else dict(self._origins())
        except ConfigError:
            self._controller.origins = {}

    @property
    def _children(self) -> list[Child]:
        return [*self._workers, self._controller]

    def run(self) -> int:
        """Keep the children alive until SIGTERM or SIGINT, then drain; returns the exit status."""
        earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            while not self._fatal:
                self._write_files()
                self._start_due()
                self._kill_overdue()
                match self._wait(self._seconds_to_next()):
                    case signal.SIGTERM | signal.SIGINT:
                        break
                    case signal.SIGHUP:
                        self._reload_config()
                    case _:
                        self._reap()
            clean = self._drain()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
        if self._fatal:
            return _BAD_SETTINGS
        return 0 if clean else 1

    def _wait(self, seconds: float | None) -> int | None:
        """The next signal, or None after `seconds`."""
        if seconds is None:
            return signal.sigwait(_SIGNALS)
        info = signal.sigtimedwait(_SIGNALS, max(0.0, seconds))
        return None if info is None else info.si_signo

    def _seconds_to_next(self) -> float | None:
        """Until a child is to be started, or one that was replaced is to be killed."""
        due = [child.due_at for child in self._children if child.due_at is not None]
        due += [old.kill_at for old in self._replaced if old.kill_at < math.inf]
        due += [self._files.due_at] if self._files.due_at is not None else []
        return min(due) - self._clock.monotonic() if due else None

    def _write_files(self) -> None:
        """What the disk had no room for when this server started; children that did without are told by the files."""
        if self._files.due_at is None or self._files.due_at > self._clock.monotonic():
            return
        try:
            written = self._files.write()
        except (OSError, ValueError) as exc:
            _log.error("the files of this start cannot be written: %s", exc)
            self._files.put_off()
            return
        if written:
            for child in self._children:
                child.note_pid()

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        for child in self._children:
            if child.due_at is not None and child.due_at <= now:
                child.spare_keys = self._files.spare_keys
                child.start(self._config)

    def _kill_overdue(self) -> None:
        """Kill what was replaced and has not ended in its time."""
        now = self._clock.monotonic()
        for old in self._replaced:
            if old.kill_at <= now:
                _log.error("%s, already replaced, did not end in time: killing it", old.child.name)
                old.process.kill()
                old.kill_at = math.inf

    def _reap(self) -> None:
        self._replaced = [old for old in self._replaced if old.process.poll() is None]
        for child in self._children:
            status = child.reap()
            if status == EXIT_CONFIG and not self._reloaded and not child.has_run:
                _log.error("%s cannot run with these settings: shutting down", child.name)
                self._fatal = True
            elif status is not None and not self._draining:
                _log.warning("%s ended (%s); restarting it", child.name, _describe(status))
            elif status:
                _log.warning("%s ended (%s)", child.name, _describe(status))

    def _reload_config(self) -> None:
        """Take new settings over where that needs no new socket; say what needs a restart."""
        if self._reload is None:
            _log.warning("SIGHUP: no configuration file to reload")
            return
        try:
            fresh = self._reload()
            check_serving(fresh)
            _try_certificates(fresh)
        except ConfigError as exc:
            _log.error("SIGHUP: the new configuration is not valid, the old one stays in use: %s", exc)
            return
        except Exception:  # noqa: BLE001 - whatever is wrong with it: all traffic would end with this process
            _log.exception("SIGHUP: the new configuration cannot be read, the old one stays in use")
            return
        fixed = [key for key in _NEEDS_RESTART if _setting(fresh, key) != _setting(self._config, key)]
        if fixed:
            _log.error("SIGHUP: nothing was changed; these settings need a restart: %s", ", ".join(fixed))
            return
        try:
            publish_first_routes(DataDir.of(fresh).routes, fresh)
        except OSError as exc:
            _log.error("SIGHUP: nothing was changed; the route table cannot be written: %s", exc)
            return
        self._reloaded = True  # from here on a child that cannot run is no reason to stop the others
        patience_s, self._config = self._config.server.drain_seconds + _GRACE_S, fresh
        self._tell_origins()
        for child in self._children:
            child.spare_keys = self._files.spare_keys
            if child.running and (old := child.replace(fresh)) is not None:
                limit_s = _FLUSH_S if child is self._controller else patience_s
                self._replaced.append(_Replaced(child, old, self._clock.monotonic() + limit_s))
        _log.info("SIGHUP: the new configuration is in use")

    def _drain(self) -> bool:
        """Workers first, then the controller; True where nobody had to be killed."""
        self._draining = True
        self._patient_until = self._clock.monotonic() + _SAME_WISH_S
        self._sockets.public.close()  # the workers close theirs: from then on new connections are refused
        _log.info("draining: open requests get %g s to finish", self._config.server.drain_seconds)
        patient = self._end(self._workers, self._config.server.drain_seconds + _GRACE_S)
        flushed = self._end([self._controller], _FLUSH_S)
        return patient and flushed

    def _end(self, children: list[Child], limit_s: float) -> bool:
        """Ask the children to end, and kill what is left after `limit_s` or at a second SIGTERM or SIGINT."""
        deadline = self._clock.monotonic() + limit_s
        for child in children:
            child.send(signal.SIGTERM)
        while True:
            self._reap()
            self._kill_overdue()
            replaced = [old for old in self._replaced if old.child in children]
            if not replaced and not any(child.running for child in children):
                return True
            now = self._clock.monotonic()
            soonest = min([deadline, *(old.kill_at for old in replaced)])
            if deadline <= now:
                why = "did not end in time"
                break
            if self._wait(soonest - now) in _ENDS and self._clock.monotonic() >= self._patient_until:
                why = "had not ended at the second signal"
                break
        for child in children:
            if child.running:
                _log.error("%s %s: killing it", child.name, why)
                child.send(signal.SIGKILL)
        for old in replaced:
            old.process.kill()
        return False


@dataclass(slots=True)
class _Replaced:
    """A process that was replaced, and when it is to be killed, on the monotonic clock."""

    child: Child
    process: subprocess.Popen[bytes]
    kill_at: float


def _try_certificates(config: Config) -> None:
    """Raise ConfigError where a worker could not use them: the old one would be gone by then."""
    from proxy.config.own_tls import try_certificates  # a supervisor needs TLS for nothing else

    try_certificates(config)


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _setting(config: Config, key: str) -> object:
    table, _, name = key.partition(".")
    return getattr(getattr(config, table), name)
