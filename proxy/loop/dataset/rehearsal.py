"""The rehearsal buffer: older samples that are mixed into every training file, against forgetting.

A JSONL file in the format of the output. It is read twice, line by line: once to count and check, once to take an
even random sample of exactly the wanted size (Knuth's selection sampling, with a hash for a coin, so that the same run
takes the same lines again).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import orjson

from policies.assignment import unit_interval
from policies.formats import FormatType, conforms, has_parts
from proxy.errors import PermanentError

__all__ = ["Rehearsal"]

_KEY = "generator_config.existing_data_path"


class Rehearsal:
    """A checked rehearsal file."""

    def __init__(self, path: str | None, format_type: FormatType) -> None:
        """Count the lines. Raises PermanentError where the file is missing, or where no line has the right format."""
        if path is None:
            raise PermanentError(f"{_KEY} is not set, but generator_config.include_existing_data is on")
        self._path = Path(path).expanduser()
        self._format: FormatType = format_type
        self.available = 0
        self.taken = 0
        """Lines that `take` has given."""
        self.malformed = 0
        """Lines that are no JSON object of the format; they are left out."""
        self.parts = False
        """Whether one of them has a content in parts."""
        if not self._path.is_file():
            raise PermanentError(f"{_KEY}: there is no file {self._path}")
        with self._path.open("rb") as lines:
            for line in lines:
                if self._good(line):
                    self.available += 1
                    self.parts = self.parts or has_parts(orjson.loads(line))
                elif line.strip():
                    self.malformed += 1
        if self.malformed and not self.available:
            raise PermanentError(f"{_KEY}: no line of {self._path} is in the format {format_type} of the training file")

    def take(self, count: int, seed: str) -> Iterator[bytes]:
        """`count` lines (at most `available`) in file order, each equally likely, without line ends."""
        salt = blake2b(seed.encode()).digest()
        left, wanted = self.available, count
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines):
                if wanted == 0:
                    return
                if not self._good(line):
                    continue
                if unit_interval(salt, str(number).encode()) * left < wanted:
                    wanted -= 1
                    self.taken += 1
                    yield line.strip()
                left -= 1

    def _good(self, line: bytes) -> bool:
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError:
            return False
        return isinstance(body, dict) and conforms(body, self._format)
