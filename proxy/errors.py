"""The few exceptions that a caller treats differently from a builtin one.

    TemporaryError(retry_after_s)   wait, then try the same thing again
    PermanentError                  retries are useless: give up and say why
    ConfigError                     stop the start; the text names the key and the remedy

The message is for the person who reads it at night: what was wrong, where, and what to change.
"""

from __future__ import annotations

__all__ = ["ConfigError", "PermanentError", "TemporaryError"]


class TemporaryError(Exception):
    """An effect could not be done now; the same call may succeed after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 10.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(Exception):
    """An effect cannot be done, however often it is tried."""


class ConfigError(ValueError):
    """The configuration cannot be used. `str()` lists each problem with its full key path."""
