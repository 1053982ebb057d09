"""API keys of models other than the configured champion: each goes only to the server that it was given for.

The controller takes them from the store and writes `credentials.json` in the data directory, for this user alone; the
workers of that host follow the file. Route table, journal, logs, status and URLs have just a name. A key whose name is
unknown, or whose server is another one, is not sent, and neither is the client's own in its place: that was given for
us, and not for a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.config.serving import ChampionConfig, key_in_header
from proxy.private import replace_private
from proxy.routes import origin

__all__ = ["CHAMPION", "CREDENTIALS_FILE", "NO_CREDENTIAL", "Credential", "CredentialFile", "UnknownCredentialError",
           "configured_header", "read_credentials", "write_credentials"]  # fmt: skip

CREDENTIALS_FILE: Final = "credentials.json"
NO_CREDENTIAL: Final = "none"
"""The name that stands for: this server needs none, and gets none, not even the client's."""
CHAMPION: Final = "champion"
"""The name of the configuration's own (`champion.api_key`)."""


class UnknownCredentialError(ValueError):
    """A key that is not here (yet), or is for another server: whoever needs it waits, or does without that server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A header that lets us in somewhere."""

    origin: tuple[str, str]
    """Scheme and host with port of the server that it is for."""
    header: str
    value: str = field(repr=False)
    """What the header says."""

    @classmethod
    def of(cls, url: str, api_key: str, header: str = "authorization") -> Credential:
        """The key of the server at `url`, sent as `champion.api_key` would be."""
        name, value = key_in_header(header, api_key)
        return cls(origin=origin(url), header=name, value=value)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Credential:
        """Raises KeyError, TypeError, ValueError for what is none."""
        scheme, netloc = document["origin"]
        header, value = document["header"], document["value"]
        if not all(isinstance(text, str) for text in (scheme, netloc, header, value)):
            raise TypeError("not texts")
        return cls(origin=(scheme, netloc), header=header, value=value)

    def as_json(self) -> dict[str, Any]:
        """With its secret."""
        return {"origin": list(self.origin), "header": self.header, "value": self.value}

    def for_url(self, url: str) -> tuple[str, str]:
        """Name and value of the header for a request to `url`. Raises UnknownCredentialError for another server."""
        if origin(url) != self.origin:
            raise UnknownCredentialError(f"the API key is for {'://'.join(self.origin)}, not for {url}")
        return self.header, self.value


def configured_header(champion: ChampionConfig, url: str) -> tuple[str, str] | None:
    """The configured champion's own key, for requests to `url`; None where there is none, or that is not its server."""
    return champion.credential_header() if origin(url) == origin(champion.url) else None


class CredentialFile:
    """The keys in a file, as far as it was read last."""

    def __init__(self, path: Path | None, champion: ChampionConfig) -> None:
        """Nothing is read before `refresh`. `path` None: there is none, and no key but the configured champion's."""
        self._path = path
        self._champion = champion
        self._stamp: tuple[int, int] | None = None
        self._found: Mapping[str, Credential] = {}

    def __repr__(self) -> str:
        return f"CredentialFile({str(self._path)!r}, {len(self._found)} keys)"

    def refresh(self) -> bool:
        """Read the file if it was replaced; True where the keys changed. Raises OSError, ValueError, as often as it
        cannot be read; what was read before stays."""
        if self._path is None:
            return False
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return False
        found = read_credentials(self._path)
        self._stamp = stamp
        changed, self._found = found != self._found, found
        return changed

    def header(self, name: str, url: str) -> tuple[str, str] | None:
        """Name and value of the header that lets us in at `url` with the credential `name`; None where none is to be
        sent. Raises UnknownCredentialError."""
        if name == NO_CREDENTIAL:
            return None
        if name == CHAMPION:
            return configured_header(self._champion, url)
        if name not in self._found:
            raise UnknownCredentialError(f"the API key {name} is not on this host")
        return self._found[name].for_url(url)


def read_credentials(path: Path) -> dict[str, Credential]:
    """Those in the file. Raises OSError, ValueError."""
    try:
        return {name: Credential.from_json(entry) for name, entry in orjson.loads(path.read_bytes()).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        why = type(exc).__name__  # its message may quote a key
        raise ValueError(f"{path}: not a file of API keys ({why}); the controller writes it anew") from None


def write_credentials(path: Path, credentials: Mapping[str, Credential]) -> None:
    """Replace the file, readable for this user alone. Raises OSError."""
    content = orjson.dumps({name: found.as_json() for name, found in sorted(credentials.items())})
    replace_private(path, content, durable=True)
