"""The composition root: the supervisor and the two kinds of processes that it keeps alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.config.model import Config

__all__ = ["serve"]


def serve(
    config: Config,
    config_path: Path | None = None,
    reload: Callable[[], Config] | None = None,
    origins: Callable[[], Mapping[str, str]] | None = None,
) -> int:
    """Run `ratchet serve` until a signal ends it; returns the exit status (see `proxy.app.supervisor.serve`).

    `origins` says where settings come from. On SIGHUP `reload` gives the new configuration;
    without it, the file `config_path` is read again.
    """
    from proxy.app.supervisor import serve as run

    if reload is None and config_path is not None:
        reload = _reader(config_path)
    return run(config, reload, origins)


def _reader(path: Path) -> Callable[[], Config]:
    def read() -> Config:
        import os

        from proxy.config.load import load_config

        return load_config(path, environ=os.environ)

    return read
