"""What the verbs share: options, exit codes, reading the configuration, printing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from proxy.cli.printable import console, json_printable, say
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.config.model import Config

__all__ = [
    "AdminUrlOption",
    "ConfigOption",
    "DataDirOption",
    "Exit",
    "JsonOption",
    "TokenOption",
    "console",
    "fail",
    "print_json",
    "read_config",
    "read_json",
    "read_text",
    "say",
]


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    UNREACHABLE = 4
    NOT_FOUND = 5
    UNDECIDED = 6


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="RATCHET_CONFIG",
        help="TOML or JSON file; see config.example.toml.",
        show_default=False,
    ),
]
DataDirOption = Annotated[
    str | None,
    typer.Option("--data-dir", help="Directory of spool, database and keys (server.data_dir).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table for people.")]
AdminUrlOption = Annotated[
    str | None,
    typer.Option(
        envvar="RATCHET_ADMIN_URL",
        help="Admin port of a running server; by default the local one's.",
        show_default=False,
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="RATCHET_ADMIN_TOKEN", help="Admin token; by default the configuration's.", show_default=False
    ),
]


def fail(code: Exit, message: str) -> NoReturn:
    """Say why on stderr and end with `code`."""
    say(f"ratchet: {message}", err=True, colour=typer.colors.RED)
    raise typer.Exit(int(code))


def read_config(path: Path | None, data_dir: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of this call: file, environment, then options."""
    from proxy.config import load_config

    try:
        return load_config(path, {"server.data_dir": data_dir, **(overrides or {})}, os.environ)
    except ConfigError as exc:
        fail(Exit.CONFIG, str(exc))


def read_text(path: Path, option: str) -> str:
    """The text of a file that an option names, without what is around it; ends the command where there is none."""
    try:
        text = path.expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        fail(Exit.USAGE, f"{option}: {path} cannot be read ({getattr(exc, 'strerror', None) or 'it is not text'})")
    if not text:
        fail(Exit.USAGE, f"{option}: {path} is empty")
    return text


def read_json(path: Path, option: str) -> Any:
    """What is in a JSON file that an option names; ends the command where it is no JSON."""
    try:
        return json.loads(read_text(path, option))
    except (ValueError, RecursionError) as exc:
        fail(Exit.USAGE, f"{option}: {path} is not JSON ({exc})")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    say(json_printable(json.dumps(document, indent=2, ensure_ascii=False)))
