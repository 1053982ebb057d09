"""`ratchet check`: two URLs and a golden file, or an install's conversations; exit codes, JSON and JUnit for a CI."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from policies.rows import ModelState
from proxy.cli.app import app
from proxy.store.store import Store
from tests.checks.world import ScriptedModel, history, opened, unused_port
from tests.harness.webserver import serving_in_thread


def ratchet(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "200"})


def golden(folder: Path, count: int = 30, **expect: Any) -> str:
    path = folder / "golden.jsonl"
    cases = [
        {
            "name": f"case {at}",
            "request": {"messages": [{"role": "user", "content": f"Say {at}"}]},
            "expect": expect or {"contains": str(at)},
            "tags": ["numbers"],
        }
        for at in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, cases)))
    return str(path)


def says(asked: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {"content": f"Here you are: {asked['messages'][-1]['content'].split()[-1]}"}


def refuses(asked: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {"content": "No\x00 way."}


def test_two_urls_and_a_golden_file_suffice(tmp_path: Path) -> None:
    old, new = ScriptedModel(says), ScriptedModel(says)
    with serving_in_thread(old.app) as champion, serving_in_thread(new.app) as challenger:
        options = ("--golden", golden(tmp_path), "--data-dir", str(tmp_path / "none"))
        result = ratchet("check", challenger, "--champion", champion, "--model", "new", *options)
        assert result.exit_code == 0, result.output
        assert "pass: golden file: of 30 cases the challenger lost 0 and won 0" in result.output
    assert (len(old.asked), len(new.asked)) == (30, 30)
    assert {asked.get("model") for asked in new.asked} == {"new"}
    assert not (tmp_path / "none").exists()


def test_a_worse_model_is_told_to_machines_and_people(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    with serving_in_thread(ScriptedModel(says).app) as champion, serving_in_thread(ScriptedModel(refuses).app) as url:
        options = ("--champion", champion, "--golden", golden(tmp_path), "--data-dir", str(tmp_path))
        told = ratchet("check", url, *options, "--json", "--junit", str(report))
        shown = ratchet("check", url, *options)
    assert (told.exit_code, shown.exit_code) == (1, 1), told.output
    document = json.loads(told.stdout)
    assert document["verdict"] == "reject"
    assert [group["worse"] for group in document["parts"][0]["groups"]] == [True, True]
    assert document["cases"][3]["challenger"] == ['does not contain "3"']
    assert "reject: golden file: of 30 cases the challenger lost 30" in shown.output
    assert "case 3" in shown.output
    suites = ElementTree.parse(report).getroot()
    assert [(suite.get("name"), suite.get("failures")) for suite in suites] == [("golden file", "30"), ("gate", "2")]
    failure = suites[0][3].find("failure")
    assert failure is not None
    assert failure.get("message") == 'does not contain "3"'
    assert "No\ufffd way." in str(failure.text)


def test_without_a_champion_every_case_must_hold(tmp_path: Path) -> None:
    with serving_in_thread(ScriptedModel(says).app) as url:
        passes = ratchet("check", url, "--golden", golden(tmp_path), "--data-dir", str(tmp_path))
        fails = ratchet(
            "check", url, "--golden", golden(tmp_path, contains="nobody says this"), "--data-dir", str(tmp_path)
        )
    assert (passes.exit_code, fails.exit_code) == (0, 1), (passes.output, fails.output)


def test_a_server_that_is_away_is_undecided(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{unused_port()}"
    options = ("--golden", golden(tmp_path), "--data-dir", str(tmp_path), "--set", "checks.time_limit_minutes=0.05")
    result = ratchet("check", away, "--champion", away, *options)
    assert result.exit_code == 6, result.output
    assert f"hold: {away} cannot be reached" in result.output


def test_nothing_to_ask_is_said(tmp_path: Path) -> None:
    result = ratchet("check", "http://127.0.0.1:9", "--data-dir", str(tmp_path))
    assert result.exit_code == 3
    assert "there is nothing to ask: give a golden file (--golden FILE)" in result.output


def test_a_mistake_in_the_golden_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('{"request": {}}\n')
    for verb in (
        ("check", "http://127.0.0.1:9", "--golden", str(path)),
        ("check-config", "--set", f"checks.golden={path}"),
    ):
        result = ratchet(*verb, "--data-dir", str(tmp_path))
        assert result.exit_code == 3
        assert "line 1: request: missing" in result.output


@pytest.fixture
def install(tmp_path: Path) -> Path:
    """A data directory whose champion has answered 160 users, and a model that nobody has deployed yet."""

    async def fill() -> None:
        async with opened(tmp_path, history(160, now_us=int(time.time() * 1e6))) as store:
            await _models(store)

    asyncio.run(fill())
    return tmp_path


async def _models(store: Store) -> None:
    await store.models.add("champion", url="http://127.0.0.1:9", state=ModelState.CHAMPION)
    await store.models.add("shelved")
    await store.models.add("locked", url="http://127.0.0.1:9", credential="key-1")


def test_conversations_of_an_install_are_asked(install: Path) -> None:
    good, bad = ScriptedModel(), ScriptedModel(lambda asked, rng: {"content": ""})
    with serving_in_thread(good.app) as url, serving_in_thread(bad.app) as worse:
        passes, fails = (
            ratchet("check", url, "--data-dir", str(install)),
            ratchet("check", worse, "--data-dir", str(install)),
        )
    assert (passes.exit_code, fails.exit_code) == (0, 1), (passes.output, fails.output)
    assert re.search(r"pass: conversations of \d+ users: by visible defects it is", passes.output)
    assert "empty" in fails.output


def test_a_model_is_named_or_it_is_said_that_there_is_none(install: Path) -> None:
    for name, says_so in (
        ("nobody", "neither a URL nor the name of a model"),
        ("shelved", "shelved has no endpoint to ask"),
        ("locked", "the API key key-1 is not on this host"),
    ):
        result = ratchet("check", name, "--data-dir", str(install))
        assert result.exit_code in (3, 5)
        assert says_so in result.output


def test_what_is_changed_in_requests_is_read_from_a_file(tmp_path: Path) -> None:
    model = ScriptedModel(says)
    rewrite, key = tmp_path / "rewrite.json", tmp_path / "key"
    rewrite.write_text('{"system": {"replace": "Count."}, "parameters": {"temperature": 0}}')
    key.write_text("sk-1\n")
    with serving_in_thread(model.app) as url:
        options = ("--rewrite", str(rewrite), "--api-key-file", str(key), "--golden", golden(tmp_path, 3))
        assert ratchet("check", url, *options, "--data-dir", str(tmp_path)).exit_code == 0
        rewrite.write_text('{"sistem": 1}')
        wrong = ratchet("check", url, *options, "--data-dir", str(tmp_path))
        key.write_text("sk-1\nsk-2")
        two = ratchet("check", url, "--api-key-file", str(key), "--data-dir", str(tmp_path))
    assert [asked["messages"][0] for asked in model.asked] == [{"role": "system", "content": "Count."}] * 3
    assert {asked["temperature"] for asked in model.asked} == {0}
    assert (two.exit_code, "characters that a header cannot carry" in two.output, "sk-" in two.output) == (
        2,
        True,
        False,
    )
    assert wrong.exit_code == 2
    assert "rewrite.sistem: there is no such member" in wrong.output
