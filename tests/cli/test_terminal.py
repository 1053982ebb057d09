"""Whatever a client, a model or a server said: a terminal that shows it gets no command of it, and no markup is read."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.app.logs import configure_logging
from proxy.cli.printable import console, plain, styled
from proxy.config.model import TelemetryConfig
from proxy.printable import PrintableFormatter, json_printable, printable
from tests.harness.hostile import COMMANDS, HOSTILE, plant

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=40) | st.sampled_from(HOSTILE)


@given(ANY_TEXT)
def test_what_is_printable_commands_nothing(text: str) -> None:
    assert not COMMANDS.search(printable(text))


@given(ANY_TEXT)
def test_json_means_the_same_and_can_be_printed(text: str) -> None:
    document = json_printable(json.dumps([text], ensure_ascii=False))
    assert not COMMANDS.search(document)
    assert json.loads(document) == [text]


@given(ANY_TEXT)
def test_the_console_reads_no_markup_and_passes_no_command(text: str) -> None:
    from io import StringIO

    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.file = StringIO()
    out.width = 2000
    out.print(text)
    out.print(styled("a", (text, "bold")))
    out.print(Text(text))  # as if nobody had thought of it
    out.print(Panel(plain(text), title=plain(text)))
    table = Table(text, title=text)
    table.add_row(text)
    out.print(table)
    shown = out.file.getvalue()
    assert not COMMANDS.search(shown)
    flat = "".join(text.split())
    if text in HOSTILE and "\n" not in text:
        assert "".join(printable(flat).split()) in "".join(shown.split())


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_line_is_one_entry_and_commands_nothing(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level, hook = root.handlers[:], root.level, sys.excepthook
    configure_logging(TelemetryConfig(log_format=form), "worker-0")  # type: ignore[arg-type]
    try:
        for text in HOSTILE:
            try:
                raise ValueError(f"{text}\n2026-01-31T12:00:00.123Z INFO forged")
            except ValueError:
                logging.getLogger("ratchet.test").exception("the model said %s", text)
        sys.excepthook(ValueError, ValueError(HOSTILE[0]), None)
    finally:
        root.handlers[:], sys.excepthook = before, hook
        root.setLevel(level)
        logging.captureWarnings(False)
    said = capsys.readouterr().err
    assert not COMMANDS.search(said)
    starts = [line for line in said.splitlines() if not line.startswith("    ")]
    assert len(starts) == len(HOSTILE) + 1
    assert not any("INFO" in line.split(" ", 2)[1] for line in starts if form == "text")


def test_the_formatter_keeps_ordinary_text() -> None:
    record = logging.LogRecord("n", logging.INFO, "f", 1, "größer als 10 € 🙂", (), None)
    assert PrintableFormatter("%(message)s").format(record) == "größer als 10 € 🙂"


VERBS = (
    ["records", "list"],
    ["records", "list", "--json"],
    ["records", "show", "{record}"],
    ["records", "show", "{record}", "--json"],
    ["records", "show", "\x1b]0;owned\x07[/nope]"],
    ["records", "list", "--status", "\x1b[2J[/nope]"],
    ["records", "export"],
    ["records", "export", "--full"],
    ["data", "preview"],
    ["data", "preview", "--json"],
    ["data", "show", "run-1"],
    ["data", "diff", "run-1", "run-2"],
    ["history"],
    ["history", "--json"],
    ["explain"],
    ["explain", "--json"],
    ["simulate"],
    ["power"],
    ["loop", "status"],
    ["loop", "status", "--json"],
    ["models", "list"],
    ["keys", "list"],
    ["status", "--admin-url", "{server}"],
    ["status", "--admin-url", "{server}", "--json"],
    ["history", "--admin-url", "{server}"],
    ["explain", "--admin-url", "{server}"],
    ["promote", "--why", "because", "--admin-url", "{server}"],
    ["share", "notanumber\x1b[2J", "--why", "x"],
    ["records", "delete", "--user", "zoe\x1b[2J", "--yes"],
    ["check-config", "{config}"],
    ["\x1b[2Jno-such-verb"],
)
