"""`ratchet keys`: the keys that sign record ids."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, fail, print_json, read_config, say
from proxy.cli.stores import key_ring
from proxy.clock import SystemClock

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List and rotate the keys that sign record ids.")


@app.command("list")
def list_keys(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """List the ids of the signing keys, never the keys. One key signs; all of them verify."""
    ring = key_ring(read_config(config, data_dir))
    keys = [(key_id, key_id == ring.signing_id, ring.signs_from(key_id)) for key_id in ring.key_ids]
    now = SystemClock().now()
    if json:
        print_json([{"id": key_id, "signs": signs, "signs_from": since} for key_id, signs, since in keys])
        return
    for key_id, signs, since in keys:
        say(f"{key_id:3}  {'signs' if signs else _waiting(since) if since > now else 'verifies'}")


@app.command("rotate")
def rotate(
    after: Annotated[
        float, typer.Option(help="Seconds until the new key signs; by then every process and host must have it.", min=0)
    ] = 600.0,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Add a new signing key. Ids signed before stay valid. Workers and hosts load the key before it signs."""
    ring = key_ring(read_config(config, data_dir))
    try:
        key_id = ring.rotate(after)
    except (OSError, ValueError) as exc:
        fail(Exit.FAILED, str(exc))
    if json:
        print_json({"id": key_id, "signs_from": ring.signs_from(key_id)})
    else:
        say(f"key {key_id}: {_waiting(ring.signs_from(key_id))}")


def _waiting(signs_from: float) -> str:
    return f"signs from {datetime.fromtimestamp(signs_from, UTC):%Y-%m-%d %H:%M:%S} UTC"
