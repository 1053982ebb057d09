"""config.example.toml and docs/reference/config.md, written from the settings themselves.

The line under each key in the dataclasses is its documentation; it is read from the source, so that code, example
and reference cannot drift apart. `python -m proxy.config.document` rewrites both files; a test holds them to it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from policies.intervals import Interval
from proxy.config.literal import show
from proxy.config.model import Config
from proxy.config.parse import Key, hints, keys, optional

__all__ = ["EXAMPLE_FILE", "REFERENCE_FILE", "Table", "describe", "example_toml", "reference_markdown", "tables"]

EXAMPLE_FILE: Final = "config.example.toml"
REFERENCE_FILE: Final = "docs/reference/config.md"
_LONG_LIST: Final = 200
"""Characters from which on a list is written with an item a line."""
_FIRST: Final = (
    "",
    "champion",
    "server",
    "admin",
    "feedback",
    "sticky",
    "gateway",
    "capture",
    "spool",
    "store",
    "scoring",
)

_EXAMPLE_HEAD: Final = """\
# Ratchet: every setting, its meaning and its default. As it stands this file changes nothing but champion.url,
# which has no default; delete what you do not change.
#
# The same keys work as JSON, as environment variables (RATCHET_SERVER__PORT=9000: table, two underscores, key)
# and, for some, as options of `ratchet serve`; a later one of these wins. A key that ends in _file names a file
# that holds the secret. "none" switches off a setting that may be off. Times are in the unit that the name says.
"""

_REFERENCE_HEAD: Final = """\
# Configuration

Every setting, as `ratchet serve --config FILE` reads it from TOML or JSON (same tables, same keys). This page is written by
`python -m proxy.config.document` from the source; [config.example.toml](../../config.example.toml) has the same in a form to copy.

* **Precedence**: command line, then environment, then file, then default.
* **Environment**: `RATCHET_<TABLE>__<KEY>`, e.g. `RATCHET_SERVER__PORT=9000`, `RATCHET_STORE__RETENTION__BODIES_DAYS=7`; keys above
  all tables have no table part: `RATCHET_CHECK_INTERVAL_SECONDS=60`. Lists are written `a,b` or as JSON, tables as JSON.
* **Secrets** can come from files: set `token_file` instead of `token`, `api_key_file` instead of `api_key`, `url_file` instead of `url`.
* **Off**: where a type says *or none*, the text `"none"` (in JSON also `null`) switches the setting off.
* **Mistakes** stop the start: unknown keys, wrong types, values out of range and contradictions are listed all at once, each
  with its key, the value, the reason and the remedy. `ratchet check-config` does only that.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the configuration with its own keys; nested tables are Tables of their own."""

    path: str
    """Dotted name; empty for the keys above all tables."""
    summary: str
    """The docstring of its dataclass, in one paragraph."""
    keys: tuple[Key, ...]


def tables() -> list[Table]:
    """Every table, in the order of the documents: the serving path first, then the loop."""
    found = list(_tables(Config, ""))
    rank = {name: index for index, name in enumerate(_FIRST)}
    return sorted(found, key=lambda table: rank.get(table.path.partition(".")[0], len(rank)))


def _tables(cls: type, path: str) -> Iterator[Table]:
    prefix = f"{path}." if path else ""
    own = tuple(key for key in keys(cls, prefix) if key.path.count(".") == prefix.count("."))
    yield Table(path=path, summary=_one_line(inspect.getdoc(cls) or ""), keys=own)
    for name, hint in hints(cls).items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _tables(hint, prefix + name)


@functools.cache
def describe(cls: type) -> dict[str, str]:
    """The line under each field of the dataclass `cls`, inherited fields included."""
    lines: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    lines[statement.target.id] = _one_line(text.value)
    assert lines.keys() <= {field.name for field in fields(cls)}
    return lines


def example_toml() -> str:
    """The text of config.example.toml."""
    blocks = [_EXAMPLE_HEAD]
    for table in tables():
        lines = [] if not table.path else [*_comment(table.summary), f"[{table.path}]"]
        for key in table.keys:
            lines += ["", *_comment(_with_choices(key)), _assignment(key)]
        blocks.append("\n".join(lines).strip("\n") + "\n")
    return "\n\n".join(blocks)


def _with_choices(key: Key) -> str:
    """What the setting means, and its values where that does not name them all."""
    meaning, hint = describe(key.owner)[key.name], optional(key.hint) or key.hint
    names = get_args(hint) if get_origin(hint) is Literal else ()
    return meaning if all(name in meaning for name in names) else f"{meaning} One of {', '.join(names)}."


def _assignment(key: Key) -> str:
    if key.default is not None:
        line = f"{key.name} = {show(key.default, limit=None)}"
        if not isinstance(key.default, tuple) or len(line) <= _LONG_LIST:
            return line
        items = [f"    {show(item, limit=None)}," for item in key.default]
        return "\n".join([f"{key.name} = [", *items, "]"])
    if optional(key.hint) is str:
        return f'# {key.name} = "…"'
    return f'{key.name} = "none"'


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, width=112, initial_indent="# ", subsequent_indent="# ")


def reference_markdown() -> str:
    """The text of docs/reference/config.md."""
    blocks = [_REFERENCE_HEAD]
    for table in tables():
        title = f"`[{table.path}]`" if table.path else "Above all tables"
        summary = table.summary if table.path else "Keys of the loop that belong to no table. In TOML they come first."
        rows = [f"| `{key.name}` | {_type(key)} | {_default(key)} | {_cell(key)} |" for key in table.keys]
        head = ["| key | type | default | meaning |", "|---|---|---|---|"] if rows else []
        blocks.append("\n".join([f"## {title}", "", summary, "", *head, *rows]).rstrip() + "\n")
    return "\n".join(blocks)


def _cell(key: Key) -> str:
    return describe(key.owner)[key.name].replace("|", r"\|")


def _type(key: Key) -> str:
    inner = optional(key.hint) or key.hint
    limits = next((rule.text for rule in key.rules if isinstance(rule, Interval)), None)
    text = _type_name(inner) + (f" in {limits}" if limits else "")
    return f"{text}, or none" if optional(key.hint) is not None and inner is not str else text


def _type_name(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return ", ".join(f'`"{name}"`' for name in get_args(hint))
    if origin is tuple:
        return {int: "list of whole numbers", float: "list of numbers"}.get(get_args(hint)[0], "list of texts")
    if origin is dict:
        return "table of texts"
    return {bool: "true or false", str: "text", float: "number", int: "whole number"}[hint]


def _default(key: Key) -> str:
    if key.default is None:
        return "–" if optional(key.hint) is str else "none"
    return f"`{show(key.default, limit=None)}`".replace("|", r"\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main(root: Path) -> None:
    """Write both files below `root`."""
    (root / EXAMPLE_FILE).write_text(example_toml(), encoding="utf-8")
    (root / REFERENCE_FILE).write_text(reference_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
