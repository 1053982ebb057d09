"""What a check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

__all__ = ["Finding", "Report"]

_SHOWN: Final = 5


@dataclass(slots=True, kw_only=True)
class Finding:
    """One thing that the consumer does not take."""

    message: str
    count: int = 0
    """Lines with it; 0 where it is about the file as a whole."""
    lines: list[int] = field(default_factory=list)
    """The first of them, from 1."""


@dataclass(slots=True, kw_only=True)
class Report:
    """A file as one consumer sees it."""

    consumer: str
    path: str
    checked_by: str
    """The library with its version, or whose written rules."""
    lines: int = 0
    refused: int = 0
    """Lines with at least one finding."""
    findings: dict[str, Finding] = field(default_factory=dict)
    """By message."""
    notes: tuple[str, ...] = ()
    """What was not checked, or is worth knowing."""

    @property
    def good(self) -> bool:
        """Whether the consumer takes the whole file."""
        return not self.findings

    def add(self, line: int, messages: Iterable[str]) -> None:
        """Write down what is wrong with a line."""
        said = dict.fromkeys(messages)
        self.refused += bool(said)
        for message in said:
            finding = self.findings.setdefault(message, Finding(message=message))
            finding.count += 1
            if len(finding.lines) < _SHOWN:
                finding.lines.append(line)

    def add_file(self, message: str) -> None:
        """Write down what is wrong with the file."""
        self.findings.setdefault(message, Finding(message=message))

    def as_json(self) -> dict[str, Any]:
        """For programs; findings with the most lines first."""
        found = sorted(self.findings.values(), key=lambda finding: -finding.count)
        return asdict(self) | {"good": self.good, "findings": [asdict(finding) for finding in found]}
