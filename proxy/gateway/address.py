"""Where a model's server listens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Address"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """TCP, TLS over TCP, or a Unix socket (`path`)."""

    host: str = ""
    port: int = 0
    tls: bool = False
    path: Path | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"
