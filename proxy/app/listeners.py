"""The listening sockets, which outlive every worker, and where they are told of."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from typing import Final

import orjson

from proxy.app.orphans import end_stuck_orphans
from proxy.app.paths import DataDir
from proxy.app.sockets import listen, url_of
from proxy.config.model import Config
from proxy.private import replace_private
from proxy.version import __version__

__all__ = ["Listeners", "announce", "greet", "public_address"]

_ORPHANS_S: Final = 1.0
"""For workers of an earlier supervisor to free the port; one that needs longer never will."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Of the public and the admin port."""

    public: socket.socket
    admin: socket.socket | None

    @classmethod
    def bind(cls, config: Config, data: DataDir) -> Listeners:
        """Raises OSError naming the setting where the public address cannot be had. The admin port is not waited for:
        where it cannot be had now, the controller opens it later, and says so."""
        server = config.server
        try:
            public = listen(server.host, server.port, "server", patience_s=_ORPHANS_S)
        except PermissionError:
            raise
        except OSError:
            end_stuck_orphans(data, server.port)
            public = listen(server.host, server.port, "server")
        if not config.admin.enabled:
            return cls(public, None)
        try:
            return cls(public, listen(config.admin.host, config.admin.port, "admin", patience_s=0.0))
        except OSError:
            return cls(public, None)

    def urls(self, config: Config) -> tuple[str, str | None]:
        """Where clients reach the public and the admin port; None where there is none (yet)."""
        scheme = "https" if config.server.tls_cert_file else "http"
        return url_of(self.public, scheme), None if self.admin is None else url_of(self.admin, "http")

    def close(self) -> None:
        self.public.close()
        if self.admin is not None:
            self.admin.close()


def announce(config: Config, data: DataDir, listeners: Listeners) -> None:
    """Tell programs where we listen, in run/addresses.json. Raises OSError."""
    public, admin = listeners.urls(config)
    replace_private(data.addresses, orjson.dumps({"public": public, "admin": admin, "pid": os.getpid()}))


def public_address(data: DataDir) -> str | None:
    """What `announce` has written down of the public port; None where it has not, or cannot be read."""
    try:
        found = orjson.loads(data.addresses.read_bytes()).get("public")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def greet(config: Config, data: DataDir, listeners: Listeners) -> None:
    """Tell a person, on stdout."""
    public, admin = listeners.urls(config)
    lines = [f"ratchet {__version__}: {public} → {config.champion.url}"]
    if admin is not None:
        lines.append(f"metrics, status and console: {admin}")
    elif config.admin.enabled:
        lines.append(f"metrics, status and console: port {config.admin.port} is in use; they open when it is free")
    lines.append(f"data: {data.root}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
