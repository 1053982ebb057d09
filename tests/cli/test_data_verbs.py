"""Verbs that work on a data directory, with or without a server: records and keys."""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from policies.records import Outcome
from proxy.cli.app import app
from proxy.cli.records import _print_record, _print_table
from proxy.ids import KeyRing, RecordIds
from proxy.store.tables.values import RecordFlag
from tests.harness.install import Install


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path / "data")


def ratchet(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(args), input=stdin, env={"COLUMNS": "200"})


def on(install: Install, *args: str, stdin: str | None = None) -> Result:
    return ratchet(*args, "--data-dir", str(install.root), stdin=stdin)


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list_shows_the_newest_first_as_a_table_and_as_json(install: Install) -> None:
    records = [install.record(query=f"question {n}") for n in range(3)]
    asyncio.run(install.fill(records))
    table = on(install, "records", "list", "--limit", "2")
    assert table.exit_code == 0
    assert [records[n].id in table.output for n in range(3)] == [False, True, True]
    assert table.output.index("question 2") < table.output.index("question 1")
    rows = answer(on(install, "records", "list", "--json"))
    assert [row["id"] for row in rows] == [record.id for record in reversed(records)]
    assert rows[0]["record_id"] == install.ids.sign(records[2].id)


def test_list_goes_on_over_pages_until_the_limit(install: Install) -> None:
    asyncio.run(install.fill([install.record(query=f"q{n}") for n in range(620)]))
    assert len(answer(on(install, "records", "list", "--limit", "610", "--json"))) == 610


def test_list_filters(install: Install) -> None:
    ann, bob = install.record(user="ann", quality=0.9), install.record(user="bob", quality=0.1)
    asyncio.run(install.fill([ann, bob], [install.vote(bob, -1)]))
    for option, value, record in (
        ("--user", "ann", ann),
        ("--min-quality", "0.5", ann),
        ("--feedback", "negative", bob),
        ("--max-quality", "0.5", bob),
    ):
        assert [row["id"] for row in answer(on(install, "records", "list", option, value, "--json"))] == [record.id]
    assert answer(on(install, "records", "list", "--model", "champion", "--status", "5xx", "--json")) == []


def test_tasks_are_listed_alone_or_left_out(install: Install) -> None:
    answered, task = install.record(), replace(install.record(), kind="task")
    asyncio.run(install.fill([answered, task]))
    for given, record in ((["--kind", "task"], task), (["--kind=-task"], answered), (["--kind", "-task"], answered)):
        assert [row["id"] for row in answer(on(install, "records", "list", *given, "--json"))] == [record.id]
    result = on(install, "records", "export", "--kind=-task")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [answered.id]


def test_what_went_wrong_is_found_by_its_outcome_and_shown_beside_the_status(install: Install) -> None:
    found = {
        outcome: replace(install.record(query=outcome.label, status=404 if outcome.refused else 200), outcome=outcome)
        for outcome in Outcome
    }
    found[Outcome.UPSTREAM_ERROR] = replace(found[Outcome.UPSTREAM_ERROR], flags=RecordFlag.UNREAD)
    asyncio.run(install.fill(list(found.values())))
    for outcome, record in found.items():
        rows = answer(on(install, "records", "list", "--outcome", outcome.label, "--json"))
        assert [(row["id"], row["outcome"]) for row in rows] == [(record.id, outcome.label)]
    table = on(install, "records", "list").output
    assert all(f"200 {name}" in table for name in ("upstream_error unread", "incomplete", "timeout", "truncated"))
    assert "404 refused" in table
    assert "200 ok" not in table
    shown = on(install, "records", "show", found[Outcome.UPSTREAM_ERROR].id).output
    assert "could not be parsed" in shown


def test_a_conversation_is_found_by_the_id_that_the_client_sent(install: Install) -> None:
    key = install.keys.user_hash(b"thread_1")
    first, other, last = (replace(install.record(), conversation=at) for at in (key, key ^ 1, key))
    last = replace(last, ttft_us=41_000, cache_read_tokens=3, cache_write_tokens=2, reasoning_tokens=1)
    asyncio.run(install.fill([first, other, last, install.record()]))
    rows = answer(on(install, "records", "list", "--conversation", "thread_1", "--json"))
    assert [row["id"] for row in rows] == [last.id, first.id]
    names = ("conversation", "ttft_ms", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    assert [rows[0][name] for name in names] == [f"{key & (1 << 64) - 1:016x}", 41.0, 3, 2, 1]
    assert [rows[1][name] for name in names[1:]] == [None] * 4
    exported = on(install, "records", "export", "--conversation", "thread_1", "--outcome", "ok").stdout
    assert [json.loads(line)["id"] for line in exported.splitlines()] == [last.id, first.id]


def test_a_filter_that_means_nothing_is_wrong_usage(install: Install) -> None:
    asyncio.run(install.fill([]))
    result = on(install, "records", "list", "--min-quality", "high")
    assert (result.exit_code, "--min-quality: 'high' is not a number" in result.output) == (2, True)


def test_show_finds_a_record_by_any_name(install: Install) -> None:
    record = install.record(aliases=["chatcmpl-1"])
    asyncio.run(install.fill([record], [install.vote(record, -1, source="ann")]))
    for name in (record.id, install.ids.sign(record.id), "chatcmpl-1"):
        document = answer(on(install, "records", "show", name, "--json"))
        assert (document["id"], document["judgements"]) == (record.id, [])
    page = on(install, "records", "show", record.id).output
    assert all(text in page for text in ("What is 65816?", "A CPU.", "vote of ann", "format check"))


def test_show_prints_what_the_judge_said_and_what_a_rewrite_had_no_place_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exchange = {"target": "/v1/x", "request": "{}", "response": "yes", "rewritten": None,
                "not_rewritten": ["a system prompt has no place in /v1/x"]}  # fmt: skip
    judged = {"scorer": "judge:gpt:3f", "asked_at": "2026-11-29T05:09:44Z", "score": 0.25, "tokens": 9,
              "reason": "It answers [another] question."}  # fmt: skip
    _print_record({"id": "0" * 32, "flags": [], "query": "q", "response": "r", "exchange": exchange, "scores": {},
                   "judgements": [judged, judged | {"score": None, "reason": None}], "votes": []})  # fmt: skip
    shown = capsys.readouterr().out
    assert "Not rewritten: a system prompt has no place in /v1/x." in shown
    assert "0.250: It answers [another] question." in shown
    assert "no score: without a reason" in shown
    assert "'judgements'" not in shown, "once, in words"


def test_show_takes_the_begin_of_an_id_where_that_is_enough(install: Install) -> None:
    one, other = sorted((install.record(), install.record()), key=lambda record: record.id)
    asyncio.run(install.fill([one, other]))
    same = next(n for n in range(32) if one.id[n] != other.id[n])
    signed, another = (install.ids.sign(record.id) for record in (one, other))
    where = next(n for n in range(36) if signed[n] != another[n])
    for given in (one.id[: same + 1], one.id[:31].upper(), f"{one.id[:30]}…", signed[: where + 1], signed[:35]):
        assert answer(on(install, "records", "show", given, "--json"))["id"] == one.id
    for begin in (one.id[:8], signed[:6]):
        result = on(install, "records", "show", begin)
        assert (result.exit_code, f"several record ids begin with {begin}" in result.output) == (2, True)
        assert one.id in result.output
        assert other.id in result.output, "the candidates"
    assert on(install, "records", "show", "f" * 14).exit_code == 5


@pytest.mark.parametrize(("columns", "also"), [(140, "kind"), (100, "arm"), (80, "hello"), (60, ""), (40, "")])
def test_a_list_in_a_terminal_cuts_neither_id_nor_time(
    columns: int, also: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "meta-llama/Llama-3.3-70B-Instruct-Turbo-with-a-very-long-name-2026"
    row: dict[str, Any] = {
        "id": "01a225b58c8473de87560cb0adaae3ee", "created_at": "2026-11-29T05:09:44Z", "model": name,
        "arm": "challenger", "kind": "chat", "status": 200, "outcome": "ok", "flags": [], "duration_ms": 1234.0,
        "completion_tokens": 12345, "quality": 1.0, "feedback": -1.0, "query": "hello there " * 20,
    }  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    _print_table([row])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(len(line) <= columns for line in shown.splitlines())
    assert also in shown
    if columns < 53:  # in two lines, whole
        first, second = (line.split() for line in shown.splitlines()[1:3])
        assert (first[0] + second[0], " ".join(first[1:])) == (row["id"], "2026-11-29 05:09:44")
    else:
        assert f"{row['id']}  2026-11-29 05:09:44" in shown
    missing = [name for name in ("arm", "kind", "tokens") if name not in shown.splitlines()[0]]
    assert all(name in shown.partition("no room for: ")[2] for name in missing), "what is left out is named"


def test_show_of_nothing_is_not_found(install: Install) -> None:
    asyncio.run(install.fill([]))
    assert on(install, "records", "show", "chatcmpl-none").exit_code == 5


def test_export_writes_json_lines(install: Install, tmp_path: Path) -> None:
    records = [install.record(query=f"q{n}") for n in range(3)]
    asyncio.run(install.fill(records))
    target = tmp_path / "out.jsonl"
    result = on(install, "records", "export", str(target), "--full")
    assert (result.exit_code, "3 records written" in result.stderr) == (0, True)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["query"] for line in lines] == ["q2", "q1", "q0"]
    assert lines[0]["exchange"]["request"] == '{"model": "m"}'
    piped = on(install, "records", "export", "--limit", "1")
    assert json.loads(piped.stdout)["query"] == "q2"


def test_a_file_that_cannot_be_written_is_named_with_the_reason(install: Install, tmp_path: Path) -> None:
    asyncio.run(install.fill([install.record()]))
    for target, reason in ((tmp_path, "Is a directory"), (tmp_path / "no" / "file", "No such file or directory")):
        result = on(install, "records", "export", str(target))
        assert (result.exit_code, f"ratchet: {target}: {reason}" in result.output) == (1, True)


def test_delete_asks_then_deletes_one_user_only(install: Install) -> None:
    asyncio.run(install.fill([install.record(user="ann"), install.record(user="ann"), install.record(user="bob")]))
    refused = on(install, "records", "delete", "--user", "ann", stdin="n\n")
    assert refused.exit_code == 1
    deleted = answer(on(install, "records", "delete", "--user", "ann", "--yes", "--json"))
    assert (deleted["records"], deleted["models"]) == (2, [])
    assert len(answer(on(install, "records", "list", "--json"))) == 1


def test_a_deletion_outlasts_a_pass_of_the_archive_that_was_killed(install: Install, tmp_path: Path) -> None:
    """Nobody renews its lease any more. How long to wait for other hosts is another question."""
    asyncio.run(install.fill([install.record(user="ann")]))
    asyncio.run(leave_a_pass(install, for_s=1.0))
    archive = str(tmp_path / "archive")
    deleted = on(install, "records", "delete", "--user", "ann", "--yes", "--json", "--wait", "0", "--archive", archive)
    assert answer(deleted)["records"] == 1


async def leave_a_pass(install: Install, for_s: float) -> None:
    """One that has ended without a word keeps others away for so long."""
    store = await install.open_store()
    assert await store.leases.acquire("archive", "killed", ttl_s=for_s) is not None
    await store.close()


def test_a_name_with_a_session_in_it_is_the_person(install: Install) -> None:
    composite = '{"account_uuid":"ann","device_id":"d","session_id":"s"}'
    former = install.record(user=composite)  # as it was recorded when names were taken whole
    asyncio.run(install.fill([install.record(user="ann"), former, install.record(user="bob")]))
    assert len(answer(on(install, "records", "list", "--user", composite, "--json"))) == 1
    deleted = answer(on(install, "records", "delete", "--user", composite, "--yes", "--json"))
    assert (deleted["records"], deleted["votes"], deleted["models"], deleted["runs"]) == (2, 0, [], [])
    assert len(answer(on(install, "records", "list", "--json"))) == 1


def test_an_empty_directory_is_told_apart_from_an_empty_store(tmp_path: Path) -> None:
    for verb in (["records", "list"], ["keys", "list"]):
        result = ratchet(*verb, "--data-dir", str(tmp_path / "nowhere"))
        assert (result.exit_code, "ratchet serve" in result.output) == (4, True)
    assert not (tmp_path / "nowhere").exists()


def test_keys_rotate_and_older_ids_stay_valid(install: Install) -> None:
    older = install.ids.mint(1.7e9)
    [first] = answer(on(install, "keys", "list", "--json"))
    assert first["signs"]
    later = answer(on(install, "keys", "rotate", "--json"))
    assert [key["signs"] for key in answer(on(install, "keys", "list", "--json"))] == [True, False]
    assert f"{later['id']:3}  signs from " in on(install, "keys", "list").output
    rotated = answer(on(install, "keys", "rotate", "--after", "0", "--json"))
    listed = answer(on(install, "keys", "list", "--json"))
    assert [(key["id"], key["signs"]) for key in listed] == [
        (first["id"], False), (later["id"], False), (rotated["id"], True),
    ]  # fmt: skip
    assert RecordIds(KeyRing(install.root / "keys.json")).verify(older.text) == older.hex
