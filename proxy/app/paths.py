"""The data directory: which file lives where. Everything durable that this install owns is below one directory."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.config.model import Config
from proxy.credentials import CREDENTIALS_FILE
from proxy.ids import KEYS_FILE
from proxy.private import NO_ROOM, looser, make_folder
from proxy.routes import ROUTES_FILE

__all__ = ["DataDir", "open_to_others"]

_LOOKED_AT: Final = 50
"""Runs, models and writers whose files are looked at, the newest."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths below `root` (`server.data_dir`, made absolute)."""

    root: Path
    keys_file: Path | None = None
    """`server.keys_file`, where that is set."""

    @classmethod
    def of(cls, config: Config) -> DataDir:
        """The data directory that the configuration names; `~` and relative paths are resolved."""
        keys_file = config.server.keys_file
        return cls(_absolute(config.server.data_dir), None if keys_file is None else _absolute(keys_file))

    def create(self) -> None:
        """Make the directories, private to this user. Raises OSError where the disk does not let it; `errno` is one of
        `NO_ROOM` where that is all."""
        for directory in (self.root, self.run, self.spool):
            try:
                make_folder(directory)
            except OSError as exc:
                if exc.errno in NO_ROOM and exc.errno != errno.EROFS:
                    raise
                raise type(exc)(f"server.data_dir: {directory} cannot be created ({exc.strerror}); choose a directory "
                              "that this user can write to") from exc  # fmt: skip

    @property
    def routes(self) -> Path:
        """The route table: the controller writes it, workers follow it."""
        return self.root / ROUTES_FILE

    @property
    def keys(self) -> Path:
        """Signing keys and pepper."""
        return self.keys_file or self.root / KEYS_FILE

    @property
    def credentials(self) -> Path:
        """API keys of challengers: the controller writes them, workers follow."""
        return self.root / CREDENTIALS_FILE

    @property
    def replica_id(self) -> Path:
        """What this install is called among those that share its database."""
        return self.root / "replica_id"

    @property
    def store_health(self) -> Path:
        """Whether the controller reaches the store, for the workers' health."""
        return self.run / "store.json"

    @property
    def host_clock(self) -> Path:
        """How far this host's clock is ahead of the database's: the controller measures it, workers follow it."""
        return self.run / "clock.json"

    @property
    def spool(self) -> Path:
        """Segments, one directory per writer."""
        return self.root / "spool"

    @property
    def run(self) -> Path:
        """Sockets, counters and process ids of the running processes."""
        return self.root / "run"

    @property
    def addresses(self) -> Path:
        """Where the running supervisor listens, as JSON."""
        return self.run / "addresses.json"

    @property
    def training(self) -> Path:
        """One directory per training run."""
        return self.root / "training"

    @property
    def models(self) -> Path:
        """One directory per managed model server."""
        return self.root / "models"

    def socket(self, index: int) -> Path:
        """Unix socket of worker `index`'s side app."""
        return self.run / f"worker-{index}.sock"

    @property
    def names(self) -> Path:
        """Unix socket at which the controller tells workers which aliases are ambiguous."""
        return self.run / "names.sock"

    @property
    def open_webui_bell(self) -> Path:
        """Touched by workers when Open WebUI says that somebody has voted; the controller looks at its time."""
        return self.run / "open-webui.bell"

    def stats(self, index: int) -> Path:
        """Shared counters of worker `index`."""
        return self.run / f"worker-{index}.stats"

    def pid(self, name: str) -> Path:
        """Process id of `name` (supervisor, controller, worker-0, …)."""
        return self.run / f"{name}.pid"

    def store_url(self, config: Config) -> str:
        """The configured database, or the SQLite file of this directory."""
        return config.store.url or f"sqlite:///{self.root / 'ratchet.db'}"


def open_to_others(config: Config) -> list[str]:
    """What users said, keys and secrets where other users of this machine may read them: a sentence for each place,
    with its remedy. Whoever may not enter the data directory reaches nothing in it; then only what lies elsewhere is
    looked at."""
    data = DataDir.of(config)
    database = data.store_url(config).partition("sqlite:///")[2]
    secrets = (config.admin.token_file, config.feedback.token_file, config.champion.api_key_file,
               config.store.url_file, config.trainer.token_file, config.deployer.token_file,
               config.judge.api_key_file, config.server.tls_key_file, config.feedback.open_webui.key_file)  # fmt: skip
    archive = (config.store.archive.url or "://").removeprefix("file://")
    places = [data.root, data.keys, *(_absolute(file) for file in secrets if file)]
    places += [_absolute(f"{database}{ending}") for ending in ("", "-wal", "-shm") if database]
    places += [] if "://" in archive else [_absolute(archive)]
    folders = (data.spool, data.run, data.training, data.models)
    places += [*folders, data.routes, data.credentials, data.replica_id]
    for folder in folders:
        places += sorted(folder.iterdir())[-_LOOKED_AT:] if folder.is_dir() else []
    closed = not any(looser([data.root]))
    return [*looser(place for place in places if not (closed and data.root in place.parents))]


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
