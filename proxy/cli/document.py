"""docs/reference/cli.md, written from the commands themselves by `python -m proxy.cli.document`.

A test compares the file with what would be written now, so that a verb or option cannot be forgotten.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer.main

from proxy.cli.app import app

__all__ = ["REFERENCE_FILE", "reference_markdown"]

REFERENCE_FILE: Final = "docs/reference/cli.md"
_HEAD: Final = """\
# Command line

`ratchet VERB -h` says the same. This page is written by `python -m proxy.cli.document` from the commands.
`python -m proxy` is `ratchet`, too; `ratchet --install-completion` teaches it to the shell.

* **Which install**: `--config` (or `RATCHET_CONFIG`) and `--data-dir` choose it; settings come from `RATCHET_…`
  variables as they do for the server ([configuration](config.md)).
* **Which server**: verbs that steer or watch find the running server by what it wrote into its data directory;
  `--admin-url` (`RATCHET_ADMIN_URL`) and `--token` (`RATCHET_ADMIN_TOKEN`) name another one. `explain`, `history`
  and commands to the loop work without a server, too: they read the store, or leave the command there.
* **For programs**: `--json` prints one JSON document on stdout; notes and progress go to stderr.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed, or refused by the server or the loop |
| 2 | wrong usage |
| 3 | the configuration cannot be used; every problem is listed |
| 4 | server or store not reachable |
| 5 | there is no such record, decision or command |
| 6 | `check` only: neither passed nor rejected, or something was missing |
"""


def reference_markdown() -> str:
    """The text of docs/reference/cli.md."""
    return "\n".join([_HEAD, *_pages(typer.main.get_command(app), "ratchet")])


def _pages(command: Any, path: str) -> Iterator[str]:
    """One page per verb; groups are only their verbs."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _pages(inner, f"{path} {name}")
        return
    text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    words = [_argument(param) for param in command.params if param.param_type_name == "argument"]
    lines = [f"## `{path}`", "", text, "", f"    {' '.join([path, *words, '[OPTIONS]'])}", ""]
    rows = [_row(param) for param in command.params if getattr(param, "help", None)]
    yield "\n".join([*lines, "| | |", "|---|---|", *rows, ""])


def _argument(param: Any) -> str:
    name = param.name.upper()
    return name if param.required else f"[{name}]"


def _row(param: Any) -> str:
    flags = param.name.upper() if param.param_type_name == "argument" else ", ".join(param.opts)
    value = "" if param.param_type_name == "argument" or getattr(param, "is_flag", False) else f" {_metavar(param)}"
    notes = [param.help.replace("|", r"\|")]
    if getattr(param, "envvar", None):
        notes.append(f"Variable `{param.envvar}`.")
    default = param.show_default if isinstance(param.show_default, str) else param.default
    if param.show_default and default not in (None, False, ()) and not callable(default):
        notes.append(f"Default: {default}.")
    if param.required:
        notes.append("Required.")
    return f"| `{flags}{value}` | {' '.join(notes)} |"


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    (root / REFERENCE_FILE).write_text(reference_markdown(), encoding="utf-8")
