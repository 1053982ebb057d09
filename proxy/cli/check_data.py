"""`ratchet data check`: whether those who train would take a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from policies.wording import many
from proxy.cli.common import Exit, JsonOption, console, fail, print_json, say
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.loop.consumers import Report

__all__ = ["Reader", "check"]


class Reader(StrEnum):
    """Who is to read the file."""

    OPENAI = "openai"
    TRL = "trl"
    AXOLOTL = "axolotl"
    MISTRAL = "mistral"


def check(
    file: Annotated[Path, typer.Argument(help="A training file (JSONL), or the folder of a dataset.")],
    reader: Annotated[Reader, typer.Option("--for", help="The trainer that will read it.")],
    template: Annotated[
        str | None,
        typer.Option(
            help="trl, axolotl: a chat template (a file, a model's folder, or a name that TRL ships); "
            "mistral: the tokenizer's version, v3 to v15.",
            show_default="qwen3; v13",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check whether a trainer accepts a file: with its own library if installed, else by its documented rules.

    Exit code 1 if a line is refused. To install the libraries: `pip install 'ratchet-proxy[check]'`.
    """
    from proxy.loop.consumers import check as ask

    path = file / "data.jsonl" if file.is_dir() else file
    try:
        report = ask(path, reader.value, template)
    except ConfigError as error:
        fail(Exit.USAGE, str(error))
    except OSError as error:
        fail(Exit.NOT_FOUND, f"{path} cannot be read: {error.strerror or error}")
    if json:
        print_json(report.as_json())
    else:
        _print(report)
    if not report.good:
        raise typer.Exit(int(Exit.FAILED))


def _print(report: Report) -> None:
    from rich.table import Table

    if report.findings:
        table = Table("lines", "what", "first", box=None, header_style="bold")
        table.columns[0].justify = "right"
        for finding in sorted(report.findings.values(), key=lambda finding: -finding.count):
            first = ", ".join(str(line) for line in finding.lines)
            table.add_row(many(finding.count) if finding.count else "file", finding.message, first)
        console().print(table)
    verdict = "takes" if report.good else "does not take"
    refused = "" if report.good else f", {many(report.refused)} of them refused"
    say(f"{report.consumer} {verdict} {report.path}: {many(report.lines)} lines{refused}")
    say(f"checked by {report.checked_by}")
    for note in report.notes:
        say(f"note: {note}")
