"""Going through a file, line by line, with a consumer's eyes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from proxy.errors import ConfigError
from proxy.loop.consumers.mistral import Mistral
from proxy.loop.consumers.openai import OpenAI
from proxy.loop.consumers.report import Report
from proxy.loop.consumers.trl import TRL, Axolotl

__all__ = ["CONSUMERS", "Consumer", "check"]


class Consumer(Protocol):
    """Somebody who trains on files."""

    name: str
    checked_by: str
    notes: tuple[str, ...]
    takes: tuple[str, ...]
    """The formats that it reads."""

    def problems(self, line: Mapping[str, Any]) -> Iterator[str]:
        """What it would refuse about a line."""
        ...

    def file_problems(self, report: Report, size: int) -> Iterator[str]:
        """What it would refuse about the file; asked once all lines were seen. `size` in bytes."""
        ...


CONSUMERS: Final[Mapping[str, Callable[[str | None], Consumer]]] = {
    "openai": lambda _: OpenAI(),
    "trl": TRL,
    "axolotl": Axolotl,
    "mistral": Mistral,
}
"""By name; each takes the template (TRL, Axolotl) or the tokenizer's version (Mistral) to use, None for the usual."""


def check(path: Path, consumer: str, template: str | None = None) -> Report:
    """What `consumer` (one of CONSUMERS) says about the training file at `path`; a line is in memory at a time.

    Raises ConfigError for a template that does not exist, OSError where the file cannot be read.
    """
    try:
        asked = CONSUMERS[consumer](template)
    except ValueError as error:
        raise ConfigError(f"--template {template}: {error}") from error
    report = Report(consumer=asked.name, path=str(path), checked_by=asked.checked_by, notes=asked.notes)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            report.lines = number
            report.add(number, _problems(asked, line))
    if not report.lines:
        report.add_file("the file is empty")
    for message in asked.file_problems(report, path.stat().st_size):
        report.add_file(message)
    return report


def _problems(consumer: Consumer, line: bytes) -> Iterator[str]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        yield "the line is not JSON"
        return
    if isinstance(value, dict):
        yield from consumer.problems(value)
    else:
        yield "the line is not a JSON object"
