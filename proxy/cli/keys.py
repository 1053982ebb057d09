"""`ratchet keys`: the keys that sign record ids."""

from __future__ import annotations

import typer

from proxy.cli.common import ConfigOption, DataDirOption, Exit, JsonOption, fail, print_json, read_config
from proxy.cli.stores import key_ring

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List and rotate the keys that sign record ids.")


@app.command("list")
def list_keys(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """List the signing keys by id, never the keys themselves; the last one signs, all of them verify."""
    ids = key_ring(read_config(config, data_dir)).key_ids
    if json:
        print_json([{"id": key_id, "signs": key_id == ids[-1]} for key_id in ids])
        return
    for key_id in ids:
        typer.echo(f"{key_id:3}  {'signs' if key_id == ids[-1] else 'verifies'}")


@app.command("rotate")
def rotate(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Add a new signing key. Ids signed before stay valid; a running server follows within a second."""
    ring = key_ring(read_config(config, data_dir))
    try:
        key_id = ring.rotate()
    except (OSError, ValueError) as exc:
        fail(Exit.FAILED, str(exc))
    if json:
        print_json({"id": key_id})
    else:
        typer.echo(f"key {key_id} signs from now on")
