"""A gateway in a process of its own that copies all requests, to be killed: `python -m tests.harness.copying …`.

Arguments: its directory, the champion's URL, the challenger's. It prints its port when it accepts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from proxy.gateway import GATEWAY_COUNTERS, Gateway
from proxy.ids import KeyRing, RecordIds
from proxy.metrics.shared import SharedCounters
from proxy.routes import RouteTable, Target
from proxy.spool.writer import SpoolWriter
from tests.harness.gateway import config

__all__ = ["CHECK", "copying"]

CHECK = 4


@asynccontextmanager
async def copying(
    directory: Path, champion: str, challenger: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Such a process and its port; killed at the end, if it still runs."""
    argv = (sys.executable, "-m", "tests.harness.copying", str(directory), champion, challenger)
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            port = int(await process.stdout.readline())
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def serve(directory: Path, champion: str, challenger: str) -> None:
    settings = config(spool={"fsync": "never"})
    ring = KeyRing.load_or_create(directory / "keys.json")
    spool = SpoolWriter(directory / "spool", settings.spool)
    table = RouteTable(
        version=1,
        champion=Target(model_id=1, name="old", url=champion),
        shadow=Target(model_id=2, name="new", url=challenger),
        shadow_share=1.0,
        check_id=CHECK,
    )
    gateway = Gateway(
        settings, routes=lambda: table, spool=spool, ids=RecordIds(ring), user_hash=ring.user_hash,
        counters=SharedCounters(directory / "stats", GATEWAY_COUNTERS),
    )  # fmt: skip
    server = await asyncio.get_running_loop().create_server(gateway.protocol_factory, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
