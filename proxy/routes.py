"""The route table: one small immutable value that tells a worker where requests go.

The controller writes it (`routes.json` in the data directory, replaced atomically); workers read it several
times a second and keep the last good one. It holds no secrets: a target names its credential, the worker
looks that up in its own configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints
from urllib.parse import urlsplit

import orjson

from proxy.private import open_private

__all__ = ["ROUTES_FILE", "RouteTable", "Target", "origin", "read_routes", "write_routes"]

ROUTES_FILE: Final = "routes.json"
_LONGEST_SALT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One model's endpoint."""

    model_id: int
    """Row in the store's `models` table; 0 for the configured champion before the store has seen it."""
    name: str
    """The model's name, for metrics and pages."""
    url: str
    """Base URL: scheme, host, port and an optional path prefix that is put before the request's path."""
    model: str | None = None
    """Rewrite the JSON `model` field to this; None leaves the client's."""
    credential: str | None = None
    """Name of its credential (`champion` is the configuration's, see `proxy.credentials`), or None to pass the client's
    through."""
    rewrite: dict[str, Any] | None = None
    """What is changed in its requests (`policies.rewrite`); None: nothing, they go on byte for byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """Where requests go. `version` only grows; a table with a lower one is ignored."""

    version: int
    champion: Target
    challenger: Target | None = None
    share: float = 0.0
    """Share of users (0 to 1) that the challenger serves."""
    control: Target | None = None
    """After a promotion: the old champion, which the new one is compared with. Never beside a challenger."""
    control_share: float = 0.0
    """Share of users (0 to 1), those with the highest hashes, that stay on it."""
    salt: str = ""
    """The experiment's salt, hex, at most 64 bytes decoded."""
    experiment_id: int | None = None
    epoch: int = 0
    """Grows with every change of share, model or weights within the experiment."""
    config_id: int = 0
    """Row in the store's `configs` table: which settings this table was made under."""
    shadow: Target | None = None
    """A challenger that gets copies of requests, whose answers go to nobody."""
    shadow_share: float = 0.0
    """Share of requests (0 to 1) that it gets copies of."""
    check_id: int | None = None
    """Row in the store's `checks` table for which its answers are compared; None: no copies are made."""

    @property
    def copies(self) -> bool:
        """Whether any request is copied."""
        return self.shadow is not None and self.check_id is not None and self.shadow_share > 0.0


def origin(url: str) -> tuple[str, str]:
    """Scheme, and host with port: two URLs with the same are one server, which may see the same credential."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def read_routes(path: Path) -> RouteTable:
    """The table in the file `path`. Raises OSError, or ValueError where it is no route table."""
    try:
        return _table(orjson.loads(path.read_bytes()))
    except (TypeError, KeyError, AttributeError, ValueError) as exc:  # orjson.JSONDecodeError is a ValueError
        raise ValueError(f"{path}: not a route table ({exc})") from exc


def _table(data: dict[str, Any]) -> RouteTable:
    champion = Target(**_checked(Target, data.pop("champion")))
    challenger, control, shadow = (_target(data.pop(name, None)) for name in ("challenger", "control", "shadow"))
    plain = _checked(RouteTable, data)
    table = RouteTable(champion=champion, challenger=challenger, control=control, shadow=shadow, **plain)
    for name in ("share", "control_share"):
        if not 0.0 <= getattr(table, name) <= 1.0:
            raise ValueError(f"{name}: {getattr(table, name)} is not a share of users, 0 to 1")
    if table.challenger is not None and table.control is not None:
        raise ValueError("control: there is a challenger, too, and users are split between two models only")
    if not 0.0 <= table.shadow_share <= 1.0:
        raise ValueError(f"shadow_share: {table.shadow_share} is not a share of requests, 0 to 1")
    if len(bytes.fromhex(table.salt)) > _LONGEST_SALT:
        raise ValueError(f"salt: longer than {_LONGEST_SALT} bytes")
    return table


_PLAIN: Final[Mapping[Any, Any]] = {float: (float, int), dict[str, Any] | None: (dict, type(None))}
"""What `isinstance` can be asked for a type."""


def _target(data: dict[str, Any] | None) -> Target | None:
    return None if data is None else Target(**_checked(Target, data))


def _checked(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """`data`, each of whose values is what the field of `kind` may hold. Raises TypeError."""
    for name, expected in get_type_hints(kind).items():
        if name in data and not isinstance(data[name], _PLAIN.get(expected, expected)):
            raise TypeError(f"{name}: {data[name]!r}")
    return data


def _written(table: RouteTable) -> dict[str, Any]:
    """The file's content. A version that knows no control reads every table without one; one with a control it refuses,
    and keeps its last: read without it, it would count the users that are held back as the new champion's."""
    document = asdict(table)
    if table.control is None:
        del document["control"], document["control_share"]
    return document


def write_routes(path: Path, table: RouteTable) -> None:
    """Replace the file `path` with `table`, atomically and durably: a reader sees the old one or the new."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open_private(scratch, "wb") as file:
        file.write(orjson.dumps(_written(table)))
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
