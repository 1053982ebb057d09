"""Whatever a client, a model or a server said: no terminal that shows it is commanded by it, and no markup is read."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.app.logs import configure_logging
from proxy.cli.printable import console, plain, styled
from proxy.clock import ManualClock, SystemClock
from proxy.config.model import TelemetryConfig
from proxy.loop.codec import to_json
from proxy.printable import PrintableFormatter, json_printable, printable
from tests.harness.arms import assessed
from tests.harness.hostile import ALL, COMMANDS, HOSTILE, STORED, plant
from tests.harness.install import Install
from tests.harness.webserver import serving_in_thread

REPOSITORY = Path(__file__).parents[2]

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
    if text in HOSTILE:
        assert shown.count(printable(text)) >= 6


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


VERBS: list[list[str]] = [
    ["records", "list"],
    ["records", "list", "--json"],
    ["records", "list", "--status", "\x1b[2J[/nope]"],
    ["records", "show", "{record}"],
    ["records", "show", "{bare}"],
    ["records", "show", "{record}", "--json"],
    ["records", "show", HOSTILE[0]],
    ["records", "export"],
    ["records", "export", "--full"],
    ["data", "preview"],
    ["data", "preview", "--json"],
    ["data", "export", "{root}/out"],
    ["data", "show", "{root}/out"],
    ["data", "show", "{root}/out", "--json"],
    ["data", "diff", "{root}/out", "{root}/out"],
    ["data", "show", HOSTILE[0]],
    ["data", "check", "{root}/bad.jsonl", "--for", "openai"],
    ["data", "check", "{root}/bad.jsonl", "--for", "openai", "--json"],
    ["history"],
    ["history", "--json"],
    ["explain"],
    ["explain", "--json"],
    ["simulate"],
    ["simulate", "--json"],
    ["power"],
    ["models", "list"],
    ["models", "stop", HOSTILE[0]],
    ["keys", "list"],
    ["check-config"],
    ["check-config", "--set", f"champion.name={HOSTILE[2]}"],
    ["check-config", "--set", f"trainer.kind={HOSTILE[1]}"],
    ["status", "--admin-url", "{server}"],
    ["status", "--admin-url", "{server}", "--json"],
    ["history", "--admin-url", "{server}"],
    ["history", "--admin-url", "{server}", "--json"],
    ["explain", "--admin-url", "{server}"],
    ["promote", "--why", "because", "--admin-url", "{server}"],
    ["pause", "--why", "because", "--admin-url", "{server}/refused"],
    ["status", "--admin-url", "{server}/broken"],
    ["feedback", "{record}", "good", "--url", "{server}/broken"],
    ["share", "\x1b[2J[/nope]", "--why", "x"],
    ["records", "delete", "--user", HOSTILE[1], "--yes"],
    [HOSTILE[1]],
    ["records", f"--{HOSTILE[1]}"],
]
"""Every way to have a text of others shown. What has a server of its own (`serve`, `loop`, `demo`) writes a log."""

SERVER_STATUS: dict[str, Any] = {
    "phase": {"name": ALL, "paused": True, "since": 1.0, "reason": ALL},
    "champion": {"name": ALL, "healthy": False},
    "challenger": {"id": 2, "name": ALL, "healthy": True},
    "next": {"action": {"action": ALL}, "reasons": [ALL]},
    "run": {"id": ALL, "trigger": ALL, "status": "running", "message": ALL},
    "triggers": {
        "fired": None, "hold": ALL, "hold_until": None, "schedule_at": None,
        "progress": [
            {"name": "schedule", "fraction": 0.5, "enabled": True, "value": 1.0, "target": 2.0, "due": False,
             "reason": ALL},
        ],
    },
    "experiment": {
        "id": 1, "share": 0.5, "started_at": 1.0, "assessment": to_json(replace(assessed(), reasons=(ALL, ALL))),
    },
    "replicas": [
        {"host": ALL, "id": ALL, "leader": True, "alive": False, "version": ALL, "seen_s_ago": 1.0,
         "routes_version": 1, "lag_s": 0.0},
    ],
    "notes": [ALL],
    "retries": [{"action": ALL, "about": ALL, "at": 1.0, "attempts": 1, "reason": ALL}],
    "troubles": {"store": {"sentence": ALL, "since": 1.0}},
}  # fmt: skip
ENTRY = {"at": 1.0, "action": ALL, "state": ALL, "who": ALL, "why": ALL, "reasons": [ALL], "run_id": ALL,
         "phase": {"from": ALL, "to": ALL}}  # fmt: skip


def hostile_server() -> Starlette:
    """An admin port that says nothing but hostile things, as one may that shows what others said."""

    def saying(content: Any, status: int = 200) -> Route:
        async def answer(request: Request) -> Response:
            return Response(json.dumps(content), status, media_type="application/json")

        return answer  # type: ignore[return-value]

    order = {"id": 1, "state": "done", "detail": ALL}
    broken = saying({"error": {"message": ALL}}, 500)
    routes = {
        "/status": saying(SERVER_STATUS),
        "/api/history": saying({"entries": [ENTRY]}),
        "/api/explain": saying(ENTRY),
        "/api/commands": saying({"id": 1}, 202),
        "/api/commands/1": saying(order),
        "/refused/api/commands": saying({"id": 1}, 202),
        "/refused/api/commands/1": saying({**order, "state": "refused"}),
        "/broken/status": broken,
        "/broken/-/feedback": broken,
    }
    return Starlette(routes=[Route(path, answer, methods=["GET", "POST"]) for path, answer in routes.items()])  # type: ignore[arg-type]


DRIVER = """
import json, sys
from proxy.cli import main
for line in json.loads(open(sys.argv[1]).read()):
    print(f"<<{line['number']}>>", flush=True)
    sys.argv = ["ratchet", *line["argv"]]
    try:
        main()
    except SystemExit as end:
        print(f"<<ended {end.code or 0}>>", flush=True)
    except BaseException as exc:
        print(f"<<broke {type(exc).__name__}>>", flush=True)
    else:
        print("<<ended 0>>", flush=True)
"""


def in_terminal(code: str, *args: str, cwd: Path) -> str:
    """What a terminal of 140 columns is sent while `python -c code args` runs in it."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "dumb", "COLUMNS": "140", "LINES": "50", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=cwd
    )
    os.close(theirs)
    sent = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        sent += piece
    os.close(ours)
    assert process.wait() == 0, sent.decode("utf-8", "replace")
    return sent.decode("utf-8").replace("\r\n", "\n")


def test_no_verb_lets_a_text_command_the_terminal(tmp_path: Path) -> None:
    install = Install(tmp_path / "data", clock=ManualClock(SystemClock().now() - 7200))
    record, bare = asyncio.run(plant(install))
    (tmp_path / "bad.jsonl").write_text(json.dumps({"messages": [{"role": STORED, "content": STORED}], STORED: 1}))
    with serving_in_thread(hostile_server()) as server:
        places = {"{record}": record, "{bare}": bare, "{root}": str(tmp_path), "{server}": server}
        orders = []
        for number, verb in enumerate(VERBS):
            argv = list(verb)
            for mark, place in places.items():
                argv = [word.replace(mark, place) for word in argv]
            if verb[:2] != ["data", "check"] and verb[-1] not in (HOSTILE[1], f"--{HOSTILE[1]}"):
                argv += ["--data-dir", str(install.root)]
            orders.append({"number": number, "argv": argv})
        (tmp_path / "orders.json").write_text(json.dumps(orders))
        sent = in_terminal(DRIVER, str(tmp_path / "orders.json"), cwd=tmp_path)
    assert "<<broke" not in sent
    shown = re.findall(r"<<(\d+)>>\n(.*?)<<ended (\d+)>>", sent, re.S)
    assert len(shown) == len(VERBS)
    for number, text, status in shown:
        verb = VERBS[int(number)]
        assert not (found := COMMANDS.search(text)), (verb, found, text)
        assert "Traceback" not in text, (verb, text)
        if "--json" in verb and status == "0":
            json.loads(text)
