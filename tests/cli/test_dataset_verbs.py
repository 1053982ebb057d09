"""data preview, show and diff, on a real store: what would be taught, where it comes from, what is left out."""

import asyncio
import gc
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.app import app
from proxy.clock import ManualClock, SystemClock
from proxy.config.storage import RetentionConfig
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.install import Install

SUBJECTS = ("tides", "glaciers", "violins", "comets", "bridges", "saffron", "lighthouses", "fjords")
ATTACK = "clear \x1b[2J\x1b]0;owned\x07 [red]colour[/red] \u202eback\x9b31m"


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path / "data", clock=ManualClock(SystemClock().now() - 7200))


def ratchet(install: Install, *args: str) -> Result:
    environ = {"COLUMNS": "200", "RATCHET_GENERATOR_CONFIG__HOLDOUT_SHARE": "0"}
    return CliRunner().invoke(app, [*args, "--data-dir", str(install.root)], env=environ)


def answer(install: Install, *args: str) -> Any:
    result = ratchet(install, *args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def fill(install: Install) -> list[NewRecord]:
    """Eight good answers with votes, a bad one, and one that would command the terminal."""
    good = [
        install.record(user=f"user-{n}", query=f"Tell me about {word}", response=f"What there is about {word}: {n}.")
        for n, word in enumerate(SUBJECTS)
    ]
    bad = install.record(user="ann", query="Say it badly", response="No.", quality=0.1)
    odd = install.record(user="eve", query=ATTACK, response=f"answer {ATTACK}", quality=0.9)
    asyncio.run(install.fill([*good, bad, odd], [install.vote(record, 1) for record in good[:4]]))
    return [*good, bad, odd]


def test_preview_shows_conversations_with_their_provenance(install: Install) -> None:
    records = fill(install)
    text = ratchet(install, "data", "preview", "--show", "20").output
    for said in ("user: Tell me about fjords", "assistant: What there is about fjords: 7.", f"record {records[7].id}",
                 "by a model from elsewhere", "model champion", "vote +1", "score 0.800", "lines to train on",
                 "none by models trained here", "characters / 4", "size: "):  # fmt: skip
        assert said in text, said
    document = answer(install, "data", "preview", "--show", "20")
    [line] = [line for line in document["conversations"] if line["sources"][0]["record"] == records[0].id]
    assert line["sources"][0] == {
        "record": records[0].id, "there": True, "words": "Tell me about tides", "model": "champion", "generation": 0,
        "author": "elsewhere", "vote": 1.0, "quality": 0.8, "user": line["sources"][0]["user"],
    }  # fmt: skip
    assert [(row["speaker"], row["text"]) for row in line["rows"]] == [
        ("user", "Tell me about tides"), ("assistant", "What there is about tides: 0."),
    ]  # fmt: skip
    assert document["lines"][0]["messages"][0]["role"] == "user"


def test_preview_counts_add_up_and_reasons_have_examples(install: Install) -> None:
    records = fill(install)
    dataset = answer(install, "data", "preview")["dataset"]
    assert dataset["seen"] == dataset["used"] + dataset["left_out"] == len(records)
    [reason] = dataset["dropped"]
    assert (reason["reason"], reason["count"]) == ("low_quality", 1)
    assert reason["examples"] == [{"record": records[8].id, "there": True, "words": "Say it badly"}]
    assert f"{records[8].id}  Say it badly" in ratchet(install, "data", "preview").output
    assert "Say it badly" not in ratchet(install, "data", "preview", "--examples", "0").output


def test_preview_leaves_nothing_behind(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(install)
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    before = {*install.root.rglob("*"), *(install.root / f"ratchet.db-{name}" for name in ("wal", "shm"))}
    assert ratchet(install, "data", "preview").exit_code == 0
    assert list(place.iterdir()) == []
    assert set(install.root.rglob("*")) <= before


@pytest.mark.parametrize("verb", [("data", "preview", "--show", "20"), ("records", "list"), ("records", "show")])
def test_what_users_say_never_commands_the_terminal(install: Install, verb: tuple[str, ...]) -> None:
    odd = fill(install)[-1]
    text = ratchet(install, *verb, *([odd.id] if verb == ("records", "show") else [])).output
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)
    assert r"clear \x1b[2J" in text
    assert "[red]colour[/red]" in text
    printed = ratchet(install, *verb, *([odd.id] if verb == ("records", "show") else []), "--json").stdout
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed)
    assert r"clear \u001b[2J" in printed


def test_preview_bears_lines_too_long_to_look_at(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.web.datasets.folder._LONGEST_LINE", 100)
    monkeypatch.setattr("proxy.web.datasets.folder._BEGINNING", 20)
    fill(install)
    assert answer(install, "data", "preview", "--show", "1")["lines"] == ['{"messages":[{"role"']
    assert ratchet(install, "data", "preview").exit_code == 0


def test_preview_in_another_format(install: Install) -> None:
    fill(install)
    document = answer(install, "data", "preview", "--format", "alpaca")
    assert document["conversations"][0]["format"] == "alpaca"
    assert answer(install, "data", "preview", "--format", "dpo")["seen"] == 10


def test_an_export_is_shown_line_by_line(install: Install, tmp_path: Path) -> None:
    records = fill(install)
    folder = tmp_path / "out" / "first"
    text = ratchet(install, "data", "export", str(folder)).output
    assert "lines to train on" in text
    assert str(folder / "data.jsonl") in text
    document = answer(install, "data", "show", str(folder), "--lines", "100", "--from", "1")
    shown = [line["sources"][0]["record"] for line in document["lines"]]
    assert set(shown) <= {record.id for record in records}
    assert shown == sorted(shown)
    assert (document["seen"], document["used"] + document["left_out"]) == (10, 10)
    assert "user: Tell me about" in ratchet(install, "data", "show", str(folder)).output
    second = answer(install, "data", "show", str(folder), "--lines", "1", "--from", "2")["lines"]
    assert [line["number"] for line in second] == [2]


def test_a_deleted_users_line_is_never_shown(install: Install, tmp_path: Path) -> None:
    fill(install)
    folder = tmp_path / "out" / "first"
    ratchet(install, "data", "export", str(folder))
    assert "Tell me about comets" in (folder / "data.jsonl").read_text()
    deleted = answer(install, "records", "delete", "--user", "user-3", "--yes")
    assert "exported to other places" in deleted["not_reached"]  # an export outside is its owner's to clean
    args = ("data", "show", str(folder), "--lines", "100", "--from", "1")
    assert "comets" not in ratchet(install, *args).output
    document = answer(install, *args)
    assert "comets" not in json.dumps(document)
    assert [line["hidden"] for line in document["lines"] if not line["rows"]] == [
        "not shown: the record has been deleted"
    ]


def test_a_training_file_that_has_lost_its_lineage_goes_whole(install: Install) -> None:
    fill(install)
    files = [install.root / "training" / run / "data.jsonl" for run in ("run-1", "run-2")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("{}\n")
    asyncio.run(trained_on(install, "run-1", "user-3"))
    text = ratchet(install, "records", "delete", "--user", "user-3", "--yes").output
    assert "without a lineage were removed whole" in " ".join(text.split())
    assert [file.exists() for file in files] == [False, True]


async def trained_on(install: Install, run: str, user: str) -> None:
    store = await install.open_store()
    try:
        await store.runs.add_users(run, [install.keys.user_hash(user.encode())])
    finally:
        await store.close()


@pytest.mark.parametrize("kept", [0, 1, 300, 700])
def test_nor_is_one_of_which_a_cut_lineage_does_not_tell_whose_it_is(
    install: Install, tmp_path: Path, kept: int
) -> None:
    fill(install)
    folder = tmp_path / "first"
    ratchet(install, "data", "export", str(folder))
    lineage = folder / "lineage.csv"
    lineage.write_bytes(lineage.read_bytes()[:kept])
    ratchet(install, "records", "delete", "--user", "user-7", "--yes")
    args = ("data", "show", str(folder), "--lines", "100", "--from", "1")
    assert "fjords" not in json.dumps(answer(install, *args)["lines"])
    assert "does not name the line's record" in ratchet(install, *args).output


def test_nor_is_one_whose_text_retention_has_dropped(install: Install, tmp_path: Path) -> None:
    fill(install)
    folder = tmp_path / "first"
    ratchet(install, "data", "export", str(folder))
    asyncio.run(forget_texts(install))
    document = answer(install, "data", "show", str(folder), "--lines", "100", "--from", "1")
    assert "Tell me about" not in json.dumps(document)
    assert {line["hidden"] for line in document["lines"]} == {"not shown: retention has deleted the record's text"}
    assert document["lines"][0]["sources"][0]["there"] is True


async def forget_texts(install: Install) -> None:
    store = await Store.open(f"sqlite:///{install.root}/ratchet.db", clock=ManualClock(SystemClock().now() + 1e6))
    try:
        await store.retention.prune(RetentionConfig(bodies_days=3, records_days=0))
    finally:
        await store.close()


def test_a_folder_may_have_any_name(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(install)
    ratchet(install, "data", "export", str(tmp_path / "first"))
    names = (".hidden", "my export (2)", "[red]x[nope]", "a\x1b[31mb")
    monkeypatch.chdir(tmp_path)
    for name in names:
        shutil.copytree("first", name)
        for args in (("show", name), ("diff", name, "first"), ("diff", "first", name)):
            result = ratchet(install, "data", *args)
            assert result.exit_code == 0, (args, result.output)
            assert "\x1b" not in result.output
    assert "[red]x[nope]" in ratchet(install, "data", "diff", "first", "[red]x[nope]").output.splitlines()[4]
    monkeypatch.chdir(tmp_path / "first")
    assert ratchet(install, "data", "show", ".").exit_code == 0


def test_two_datasets_are_compared(install: Install, tmp_path: Path) -> None:
    records = fill(install)
    ratchet(install, "data", "export", str(tmp_path / "a"))
    ratchet(install, "records", "delete", "--user", "user-3", "--yes")
    later = install.record(user="zoe", query="Tell me about kelp", response="It grows in the sea.")
    asyncio.run(add(install, later))
    ratchet(install, "data", "export", str(tmp_path / "b"))
    document = answer(install, "data", "diff", str(tmp_path / "b"), str(tmp_path / "a"))
    assert document["records"] == {"new": 1, "gone": 1, "same": 8}
    assert [example["record"] for example in document["examples"]["new"]] == [later.id]
    assert document["examples"]["gone"] == [{"record": records[3].id, "there": False, "words": None}]
    counts = {row["name"]: (row["former"], row["later"]) for row in document["counts"]}
    assert counts["used"] == (9, 9)
    text = ratchet(install, "data", "diff", str(tmp_path / "b"), str(tmp_path / "a")).output
    assert all(
        said in text for said in ("new records: 1", "Tell me about kelp", "no longer in the store", "low quality")
    )


async def add(install: Install, record: NewRecord) -> None:
    store = await install.open_store()
    try:
        await store.ingest.apply(IngestBatch(writer="w0-1-1", segment=2, offset=1, records=(record,)))
    finally:
        await store.close()


def test_an_export_that_can_not_be_made_says_so_in_a_sentence(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(install)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"generator_config": {"include_existing_data": True, "existing_data_path": "/none"}}))
    result = ratchet(install, "data", "export", str(tmp_path / "x"), "--config", str(config))
    assert (result.exit_code, result.stderr.strip()) == (
        1, "ratchet: generator_config.existing_data_path: there is no file /none"
    )  # fmt: skip
    gc.collect()
    assert not [record for record in caplog.records if record.exc_info], "a traceback would be printed"


def test_what_is_no_dataset_is_not_found(install: Install) -> None:
    fill(install)
    for args in (("show", "run-none"), ("diff", "run-none"), ("show", "../../etc"), ("diff", "a/b")):
        result = ratchet(install, "data", *args)
        assert (result.exit_code, "there is no run" in result.output) == (5, True), args
