"""The first route table, and the table that follows a changed configuration.

Before the loop has ever decided anything, requests go to the configured champion; afterwards the table is the loop's.
A configuration that gives the *same* model a new address changes only the address: nobody who moves their
model server should have to wait for a database.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from proxy.config.model import Config
from proxy.routes import RouteTable, Target, read_routes, write_routes

__all__ = ["configured_champion", "publish_first_routes"]

_log = logging.getLogger(__name__)


def configured_champion(config: Config) -> Target:
    """The target that `[champion]` names. Its credential stays in the configuration."""
    champion = config.champion
    return Target(
        model_id=0,
        name=champion.name,
        url=champion.url,
        model=champion.model,
        credential="champion" if champion.api_key else None,
    )


def publish_first_routes(path: Path, config: Config) -> RouteTable:
    """Make the file `path` fit the configuration and return its table. Raises OSError."""
    wanted = configured_champion(config)
    try:
        table = read_routes(path)
    except FileNotFoundError:
        table = RouteTable(version=1, champion=wanted)
        write_routes(path, table)
        return table
    except ValueError as exc:
        _log.error("%s; traffic goes to the configured champion until the loop publishes new routes", exc)
        table = RouteTable(version=1, champion=wanted)
        write_routes(path, table)
        return table
    if table.champion.name != wanted.name:
        _log.info("the champion is %s, promoted earlier, not the configured %s", table.champion.name, wanted.name)
        return table
    wanted = replace(wanted, model_id=table.champion.model_id)
    if table.champion != wanted:
        table = replace(table, version=table.version + 1, champion=wanted)
        write_routes(path, table)
    return table
