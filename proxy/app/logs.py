"""Logging of every process: to stderr, as text or as one JSON object a line, each naming its process.

Messages never contain bodies, keys or credentials; that is the callers' duty. Names, paths and errors in them
are escaped here, so that they command no terminal and begin no line (`proxy.printable`).
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType

from proxy.config.model import TelemetryConfig
from proxy.printable import PrintableFormatter, json_printable

__all__ = ["configure_logging"]


class _TextFormatter(PrintableFormatter):
    """`2026-01-31T12:00:00.123Z INFO worker-0 proxy.spool.writer: message`"""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _utc(record.created)


class _JsonFormatter(logging.Formatter):
    """One object a line: at, level, process, logger, message, and exception where there is one."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "at": _utc(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json_printable(json.dumps(entry, ensure_ascii=False))


def configure_logging(config: TelemetryConfig, process: str) -> None:
    """Send this process's log to stderr at `telemetry.log_level`, in the configured format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(process) if config.log_format == "json" else _TextFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log_level.upper())
    for chatty in ("uvicorn", "uvicorn.error", "asyncio", "aiosqlite", "alembic", "sqlalchemy.engine"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """The last words of a process are an entry, too: an exception may quote what a client or a model said."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, exc, trace)
        return
    logging.getLogger(__name__).critical("this process ends", exc_info=(kind, exc, trace))


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
