"""Users are taken out of a dataset by its lineage: what is left adds up, and a killed call is finished by the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.loop.dataset.deletion import (
    FolderReport,
    blank_words,
    dataset_folders,
    delete_users,
    is_unfinished,
    remove_unfinished,
)
from proxy.loop.ports import Manifest
from proxy.web.datasets.folder import DatasetFolder

AT = "2026-01-31T00:00:00+00:00"
Line = tuple[str, list[int | None]]
"""Split, and the users of the records behind the line."""


def text(number: int, users: Sequence[int | None]) -> str:
    return json.dumps({"line": number, "said by": [str(user) for user in users]})


def build(folder: Path, lines: Sequence[Line], *, model: str = "base", votes: Sequence[str] = ("",)) -> None:
    """The files of a dataset with these lines."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["record_id,user,split,line,model,generation,author,vote"]
    files: dict[str, list[str]] = {"train": [], "holdout": []}
    for number, (split, users) in enumerate(lines):
        files[split].append(text(number, users))
        for n, user in enumerate(users):
            named, vote = "" if user is None else user, votes[number % len(votes)]
            rows.append(f"r{number:03}{n},{named},{split},{len(files[split])},{model},0,elsewhere,{vote}")
    for split, name in (("train", "data.jsonl"), ("holdout", "holdout.jsonl")):
        (folder / name).write_text("".join(f"{line}\n" for line in files[split]))
    (folder / "lineage.csv").write_text("\n".join([*rows, ""]))
    records = len(rows) - 1
    manifest = Manifest(
        run_id=folder.name, data_path=str(folder / "data.jsonl"), holdout_path=str(folder / "holdout.jsonl"),
        samples=len(files["train"]), holdout_samples=len(files["holdout"]), rehearsal_samples=0, seen=records + 2,
        records=records, dropped={"empty": 2}, models={model: len(files["train"])},
        authors={"person": 0, "own": 0, "elsewhere": len(files["train"])}, generations={"0": len(files["train"])},
        tokens=1000, estimated_cost=2.0,
    )  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest.as_json()))


def manifest_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def read(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines()


users = st.one_of(st.none(), st.integers(-3, 3))
some_lines = st.lists(st.tuples(st.sampled_from(["train", "holdout"]), st.lists(users, min_size=1, max_size=2)),
                      min_size=1, max_size=12)  # fmt: skip


@given(some_lines, st.sets(st.integers(-3, 3), min_size=1))
def test_what_is_left_adds_up_and_is_still_told_by_line(lines: list[Line], gone: set[int]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as place:
        folder = Path(place) / "run-1"
        build(folder, lines)
        report = delete_users(folder, gone, AT)
        kept = [(split, text(n, who)) for n, (split, who) in enumerate(lines) if not gone & set(who)]
        for split, name in (("train", "data.jsonl"), ("holdout", "holdout.jsonl")):
            assert read(folder, name) == [line for which, line in kept if which == split]
        assert report.lines == len(lines) - len(kept)
        manifest = manifest_of(folder)
        assert manifest["samples"] == sum(split == "train" for split, _ in kept) == sum(manifest["models"].values())
        assert manifest["holdout_samples"] == sum(split == "holdout" for split, _ in kept)
        assert manifest["seen"] == manifest["records"] + sum(manifest["dropped"].values())
        if report.lines:
            assert manifest["sha256"] == hashlib.sha256((folder / "data.jsonl").read_bytes()).hexdigest()
            assert manifest["deleted"] == {"lines": report.lines, "at": AT}
        told = DatasetFolder(folder)
        for split in ("train", "holdout"):
            for line in told.lines(split, 1, 100) or []:
                said = json.loads(line.body)["said by"]
                assert sorted(str(source.user) for source in line.sources) == sorted(said)
        assert delete_users(folder, gone, AT).lines == 0


def test_the_words_of_the_training_go_with_its_lines_and_the_model_stays_named(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    build(folder, [("train", [1]), ("train", [2])])
    (folder / "train.log").write_text("secret")
    (folder / "failure.txt").write_text("secret")
    (folder / "openai-data.jsonl").write_text("secret")
    (folder / "exit.json").write_text(json.dumps({"code": 1, "reason": "f raised E: secret", "kept": "f raised E"}))
    result = {"model_path": "/models/secretless", "loss": 0.5, "best": ["secret"], "said": {"a": "secret"}}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "weights.bin").write_text("of the training")
    report = delete_users(folder, {1}, AT)
    assert (report.lines, report.words, report.strangers) == (1, 5, 1)
    assert not any(b"secret" in f.read_bytes().replace(b"secretless", b"") for f in folder.iterdir() if f.is_file())
    assert json.loads((folder / "exit.json").read_text())["reason"] == "f raised E"
    kept = json.loads((folder / "result.json").read_text())
    assert (kept["model_path"], kept["loss"]) == ("/models/secretless", 0.5)
    (folder / "train.log").write_text("secret, said later")
    assert delete_users(folder, {1}, AT) == FolderReport(folder=folder, lines=0, words=1, strangers=0)
    assert blank_words(folder) == 0


def test_others_folders_stay_as_they_are(tmp_path: Path) -> None:
    build(tmp_path / "run-1", [("train", [1]), ("holdout", [2])])
    (tmp_path / "run-1" / "train.log").write_text("of others")
    before = {file.name: file.read_bytes() for file in (tmp_path / "run-1").iterdir()}
    assert delete_users(tmp_path / "run-1", {3}, AT).lines == 0
    assert {file.name: file.read_bytes() for file in (tmp_path / "run-1").iterdir()} == before


NAMES = ("data.jsonl", "holdout.jsonl", "lineage.csv", "manifest.json")


@pytest.mark.parametrize("done", range(len(NAMES) + 1))
def test_killed_between_two_files_the_next_call_finishes_it(tmp_path: Path, done: int) -> None:
    """As a kill leaves it once all is written aside: some files renamed, the others not yet."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        build(folder, [("train", [1]), ("train", [2]), ("holdout", [1]), ("train", [1, 2])])
    delete_users(whole, {1}, AT)
    for name in NAMES[:done]:
        (killed / name).write_bytes((whole / name).read_bytes())
    for name in NAMES[done:]:
        (killed / f"{name}.next").write_bytes((whole / name).read_bytes())
    (killed / "forgetting").touch()
    (killed / "train.log").write_text("secret")
    assert delete_users(killed, {1}, AT).lines == 0
    assert {file.name: file.read_bytes() for file in killed.iterdir() if file.name != "train.log"} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }
    assert (killed / "train.log").read_text() == ""


def test_killed_before_all_is_written_the_next_call_begins_anew(tmp_path: Path) -> None:
    build(tmp_path / "run-1", [("train", [1]), ("train", [2])])
    (tmp_path / "run-1" / "data.jsonl.next").write_text("half a l")
    assert delete_users(tmp_path / "run-1", {1}, AT).lines == 1
    assert read(tmp_path / "run-1", "data.jsonl") == [text(1, [2])]
    assert not list((tmp_path / "run-1").glob("*.next"))


def test_a_lineage_that_tells_no_lines_costs_the_files_of_lines(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    build(folder, [("train", [1]), ("train", [2])])
    (folder / "lineage.csv").write_text("record_id,user,split\nr1,1,train\nr2,2,train\n")
    assert delete_users(folder, {1}, AT).lines == 1
    assert not (folder / "data.jsonl").exists()
    assert read(folder, "lineage.csv") == ["record_id,user,split", "r2,2,train"]
    assert "removed" in manifest_of(folder)["deleted"]["files"]


def test_folders_are_found_where_they_are_and_what_a_killed_build_left_goes(tmp_path: Path) -> None:
    build(tmp_path / "exports" / "deep" / "mine", [("train", [1])])
    (tmp_path / "training" / "run-2").mkdir(parents=True)
    (tmp_path / "training" / "run-2" / "staging.db").write_text("half a build")
    found = dataset_folders(tmp_path / "training", tmp_path)
    assert {folder.name for folder in found} == {"mine", "run-2"}
    unfinished = tmp_path / "training" / "run-2"
    now = (unfinished / "staging.db").stat().st_mtime
    assert [is_unfinished(unfinished, now + passed) for passed in (1, 100)] == [False, True]
    assert not is_unfinished(found[1] if found[1].name == "mine" else found[0], now + 100)
    assert remove_unfinished(unfinished) == 1
    assert list(unfinished.iterdir()) == []


@pytest.mark.parametrize("break_it", [lambda f: (f / "manifest.json").write_text("{"),
                                      lambda f: (f / "data.jsonl").unlink()])  # fmt: skip
def test_a_folder_that_lacks_something_loses_the_user_all_the_same(
    tmp_path: Path, break_it: Callable[[Path], object]
) -> None:
    folder = tmp_path / "run-1"
    build(folder, [("train", [1]), ("train", [2]), ("holdout", [1])])
    break_it(folder)
    assert delete_users(folder, {1}, AT).lines == 2
    assert read(folder, "holdout.jsonl") == []
    assert not any(row.split(",")[1] == "1" for row in read(folder, "lineage.csv"))
