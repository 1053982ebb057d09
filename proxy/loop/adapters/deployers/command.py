"""A model server of our own per model: a command on a free port, which outlives the controller.

Before the command is started, its port and a token are written to `models/<name>/server.json`; the token is in the
server's environment. So a server that was started just before a crash is found again instead of started twice, and
one that has died is started again, on the same port where that is still free.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from proxy.clock import Clock, SystemClock
from proxy.config.loop import DeployerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters import processes
from proxy.loop.adapters.deployers.health import why_unhealthy
from proxy.loop.adapters.processes import ProcessId
from proxy.loop.ports import DeployFailed, Endpoint, Handle, NotReady, Readiness
from proxy.private import make_folder, replace_private

__all__ = ["CommandDeployer", "free_port", "running_servers"]

_LOG, _SERVER = "server.log", "server.json"
_HOST = "127.0.0.1"
_RESTART_S = 10.0
_KERNELS_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT, _TRIES = 20_000, 100
_PLACEHOLDER = re.compile(r"\{(model_path|port|host|model_id|model_name)\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class CommandDeployer:
    """Starts, finds again and stops model servers."""

    def __init__(self, config: DeployerConfig, models_dir: Path, clock: Clock | None = None) -> None:
        """Logs go to `models_dir/<name>/server.log`. Raises ConfigError where the command is empty.

        `options.model` is what requests must ask this server for ({model_name} and {model_id} are filled in; default:
        whatever the client asks for). `options.host` is the address it listens on, {host} in the command: with several
        hosts, one of this host that the others reach (default 127.0.0.1). `options.stop_grace_seconds` lie between
        SIGTERM and SIGKILL (default 10).
        """
        if not config.command:
            raise ConfigError("deployer.command is empty; it needs the program and its arguments")
        self._command = config.command
        self._health_path = config.health_path
        self._model = config.options.get("model")
        self._host = config.options.get("host", _HOST)
        self._grace_s = float(config.options.get("stop_grace_seconds", "10"))
        self._models_dir = models_dir.expanduser().absolute()
        self._clock = clock or SystemClock()
        self._started_at: dict[str, float] = {}

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        """Start the server of this model, or find the one that is there."""
        if model_path is None and any("{model_path}" in part for part in self._command):
            raise PermanentError(f"{name} has no model_path, but deployer.command needs one")
        if model_path is not None and "://" not in model_path and not Path(model_path).exists():
            raise PermanentError(f"the model_path of {name} does not exist: {model_path}")
        if not _NAME.fullmatch(name):
            raise PermanentError(
                f"model name {name!r} cannot be a folder name: use letters, digits, dot, dash, underscore"
            )
        handle = {
            "kind": "command",
            "folder": str(self._models_dir / name),
            "model_id": model_id,
            "model_name": name,
            "model_path": model_path,
        }
        return await asyncio.to_thread(self._found, handle) or self._start(handle)

    async def ready(self, handle: Handle) -> Readiness:
        """Whether the server answers on its health path. A server that has ended will never be ready."""
        process = ProcessId.from_json(handle["process"])
        if not processes.alive(process):
            code = processes.exit_code(process)
            how = "" if code is None else f" with exit code {code}" if code >= 0 else f" by signal {-code}"
            tail = await asyncio.to_thread(processes.log_tail, Path(handle["folder"]) / _LOG)
            ended = f"the model server of {handle['model_name']} has ended{how}"
            return DeployFailed(
                reason=f"{ended}; its log ends:\n{tail}",
                kept=f"{ended}; its log is {Path(handle['folder']) / _LOG}",
                may_pass=True,  # there was no memory for it beside the other one, perhaps
            )
        reason = await why_unhealthy(handle["url"], self._health_path)
        return Endpoint(url=handle["url"], model=self._asked_for(handle)) if reason is None else NotReady(reason=reason)

    async def healthy(self, handle: Handle) -> bool:
        """Whether the server still answers."""
        return isinstance(await self.ready(handle), Endpoint)

    async def ensure(self, handle: Handle) -> Handle:
        """Start the server again if it has ended, at most every ten seconds."""
        if processes.alive(ProcessId.from_json(handle["process"])):
            return handle
        found = await asyncio.to_thread(self._found, handle)
        if found is not None:
            return found
        last = self._started_at.get(handle["folder"])
        if last is not None and self._clock.monotonic() - last < _RESTART_S:
            return handle
        return self._start(handle, port=handle["port"])

    async def retire(self, handle: Handle) -> None:
        """Stop the server and what it started. The log stays."""
        current = await asyncio.to_thread(self._found, handle) or handle
        await processes.stop(ProcessId.from_json(current["process"]), grace_s=self._grace_s)
        (Path(handle["folder"]) / _SERVER).unlink(missing_ok=True)

    def _found(self, handle: Handle) -> Handle | None:
        """The handle of the server that server.json tells of, if it is alive."""
        try:
            server = orjson.loads((Path(handle["folder"]) / _SERVER).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        if server["model_id"] != handle["model_id"]:
            return None
        process = processes.find(server["token"])
        return None if process is None else self._with_process(handle, process, server["port"])

    def _start(self, handle: Handle, port: int | None = None) -> Handle:
        folder = Path(handle["folder"])
        port = port if port is not None and _is_free(self._host, port) else free_port(self._host)
        server = {"model_id": handle["model_id"], "port": port, "token": secrets.token_hex(16)}
        known = {**handle, "port": port, "host": self._host}
        argv = [_PLACEHOLDER.sub(lambda match: str(known[match[1]]), part) for part in self._command]
        try:
            make_folder(folder)
            replace_private(folder / _SERVER, orjson.dumps(server))
        except OSError as error:
            raise TemporaryError(f"the folder of {handle['model_name']} cannot be written: {error}") from error
        try:
            process = processes.start(argv, log=folder / _LOG, token=server["token"])
        except OSError as error:
            raise PermanentError(f"deployer.command cannot be started: {error}") from error
        self._started_at[handle["folder"]] = self._clock.monotonic()
        return self._with_process(handle, process, port)

    def _with_process(self, handle: Handle, process: ProcessId, port: int) -> Handle:
        return {**handle, "port": port, "url": f"http://{self._host}:{port}", "process": process.as_json()}

    def _asked_for(self, handle: Handle) -> str | None:
        if self._model is None:
            return None
        return _PLACEHOLDER.sub(lambda match: str(handle.get(match[1], match[0])), self._model)


def running_servers(models_dir: Path) -> dict[str, ProcessId]:
    """The model servers that run out of this folder, by model name, whichever controller started them."""
    running = {}
    for note in sorted(models_dir.glob(f"*/{_SERVER}")):
        process = processes.find(orjson.loads(note.read_bytes())["token"])
        if process is not None:
            running[note.parent.name] = process
    return running


def free_port(host: str) -> int:
    """A port of `host` on which nobody listens, where there is one below those that the kernel gives away by itself.

    It takes a server minutes to load its model, and one of the kernel's could go to somebody else meanwhile.
    """
    candidates = range(_LOWEST_PORT, _kernels_first_port())
    for port in random.sample(candidates, min(_TRIES, len(candidates))):
        if _is_free(host, port):
            return port
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def _kernels_first_port() -> int:
    try:
        return int(_KERNELS_PORTS.read_text().split()[0])
    except OSError:  # not Linux
        return 0


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True
