"""`ratchet models`: the model servers that the command deployer has started."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, fail, print_json, read_config, say

if TYPE_CHECKING:
    from proxy.loop.adapters.processes import ProcessId

__all__ = ["app"]

_GRACE_S = 10.0

app = typer.Typer(no_args_is_help=True, help="List and stop model servers that the command deployer started.")


@app.command("list")
def list_models(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """List the running model servers. They keep running when `ratchet serve` restarts, so a restart is no outage."""
    servers = _servers(_folder(config, data_dir))
    if json:
        print_json([{"name": name, "pid": process.pid} for name, process in servers.items()])
        return
    for name, process in servers.items():
        say(f"{process.pid:8}  {name}")
    if not servers:
        say("none runs", err=True)


@app.command("stop")
def stop(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Stop all model servers, after `ratchet serve` was stopped. Its next start restarts those that have traffic."""
    folder = _folder(config, data_dir)
    if _is_serving(folder.parent / "run" / "controller.lock"):
        fail(Exit.FAILED, f"a server is running on {folder.parent} and would start them again: stop it first")
    servers = _servers(folder)
    asyncio.run(_stop(list(servers.values())))
    if json:
        print_json({"stopped": list(servers)})
    else:
        say(f"stopped: {', '.join(servers) or 'none was running'}")


def _folder(config: Path | None, data_dir: str | None) -> Path:
    from proxy.app.paths import DataDir

    return DataDir.of(read_config(config, data_dir)).root / "models"


def _servers(folder: Path) -> dict[str, ProcessId]:
    from proxy.loop.adapters.deployers.command import running_servers

    return running_servers(folder)


async def _stop(servers: list[ProcessId]) -> None:
    from proxy.loop.adapters import processes

    for process in servers:
        await processes.stop(process, grace_s=_GRACE_S)


def _is_serving(lock: Path) -> bool:
    """Whether a controller holds the lock of its data directory."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
