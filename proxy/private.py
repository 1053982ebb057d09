"""Files, folders and secrets for this user alone.

Users' words, models' answers and keys lie in them. `ratchet` itself sets its umask to 077, but the library runs inside
an application whose umask is not ours to change: so whatever we create is created with its mode. What was there before
keeps its mode, and is reported (`looser`): somebody may have meant it. And what we start knows none of our secrets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, Literal

__all__ = ["NO_ROOM", "UMASK", "create", "looser", "make_folder", "open_private", "replace_private", "without_secrets",
           "write_private"]  # fmt: skip

UMASK: Final = 0o077
"""For processes that are ours, and what they start."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What a file system says that is full, whose user has had his share, or that was made read-only after an error."""
_FILE: Final = 0o600
_FOLDER: Final = 0o700
_OTHERS: Final = 0o077
_OURS: Final = "RATCHET_"
_TOLD: Final = frozenset({"RATCHET_ADMIN_URL", "RATCHET_CONFIG", "RATCHET_DEMO_BUG", "RATCHET_URL"})
"""Variables of ours that a training may need and that hold no secret: where we are, and which file says so."""


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone. Raises OSError."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=_FOLDER, exist_ok=True)


def open_private(path: Path, mode: Literal["wb", "ab", "w"]) -> IO[Any]:
    """As `path.open(mode)`; a file that this creates is readable and writable by this user alone. Raises OSError."""
    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=_opener)


def write_private(path: Path, content: bytes | str) -> None:
    """As `path.write_bytes`, or `write_text` in UTF-8, of a file for this user alone. Raises OSError."""
    with open_private(path, "wb") as out:
        out.write(content.encode() if isinstance(content, str) else content)


def replace_private(path: Path, content: bytes | str, *, durable: bool = False) -> None:
    """As `write_private`, so that a reader sees all of it or what was there before; `durable`: after a power cut, too.
    Raises OSError."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open_private(aside, "wb") as out:
            out.write(content.encode() if isinstance(content, str) else content)
            if durable:
                out.flush()
                os.fsync(out.fileno())
        aside.replace(path)
    except OSError:  # a disk that is full is not to fill up with what was begun
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def create(path: Path) -> None:
    """Have an empty file there for whoever opens it next (SQLite, say, whose `-wal` and `-shm` take its mode on).
    Raises OSError.

    A file that is there is not opened: closing it again would give up the locks that SQLite holds on it in this
    process, and the next other process would take it for nobody's and remove its write-ahead log.
    """
    try:
        _touch(path, os.O_EXCL)
    except FileExistsError:
        if not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
            _touch(path)  # for the error's own words, or where a link leads


def _touch(path: Path, flags: int = 0) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, _FILE))


def looser(paths: Iterable[Path]) -> Iterator[str]:
    """A sentence for each of `paths` that others may read, list or write, with the command that mends it. What is not
    this user's (a volume, a mounted secret) is left to whoever it belongs to."""
    for path in paths:
        try:
            found = path.stat()
        except OSError:  # not there, or not ours to look at
            continue
        mode = stat.S_IMODE(found.st_mode)
        if (
            found.st_uid == os.geteuid()
            and mode & _OTHERS
            and (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))
        ):
            wanted = mode & ~_OTHERS
            yield f"{path} is open to other users of this machine (mode {mode:04o}); run: chmod {wanted:o} {path}"


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a training, a model server or another process of ours: all of `environ` but our settings
    (`RATCHET_ADMIN__TOKEN`, `RATCHET_STORE__URL`, …), for the secrets among them are none of its business."""
    return {name: text for name, text in environ.items() if not name.startswith(_OURS) or name in _TOLD}


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE)
