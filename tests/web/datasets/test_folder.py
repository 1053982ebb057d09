"""Files of a dataset by pages: any line, with the records behind it, without reading the file whole."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from proxy.cli.datasets import print_dataset
from proxy.clock import SystemClock
from proxy.loop.ports import Manifest
from proxy.store.store import Store
from proxy.web.datasets import DatasetReader
from proxy.web.datasets.difference import changed_settings, compare_counts, compare_records
from proxy.web.datasets.folder import DatasetFolder, is_run_id
from proxy.web.datasets.summary import summary

HEADER = "record_id,user,split,line,model,generation,author,vote"


def write(folder: Path, n: int, *, name: str = "data.jsonl", lineage: list[str] | None = None) -> DatasetFolder:
    """`n` lines that say their numbers; every third has no record, every fifth has two."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps({"n": at}) + "\n" for at in range(1, n + 1)))
    rows = [HEADER]
    for at in range(1, n + 1):
        if at % 3:
            rows += [f'{at:032x},-5,train,{at},"big, model",2,own,-1' for _ in range(1 + (at % 5 == 0))]
    (folder / "lineage.csv").write_text("\n".join(lineage if lineage is not None else rows) + "\n")
    return DatasetFolder(folder)


@pytest.mark.parametrize("first", [1, 2, 255, 256, 257, 511, 512, 513, 700, 990, 1000])
def test_any_page_has_its_lines_and_their_records(tmp_path: Path, first: int) -> None:
    folder = write(tmp_path, 1000)
    lines = folder.lines("train", first, 20)
    assert lines is not None
    assert [line.number for line in lines] == list(range(first, min(first + 20, 1001)))
    for line in lines:
        assert json.loads(line.body) == {"n": line.number}
        assert len(line.sources) == (0 if line.number % 3 == 0 else 2 if line.number % 5 == 0 else 1)
        for source in line.sources:
            assert (source.record_id, source.line) == (f"{line.number:032x}", line.number)
            assert (source.user, source.model, source.generation) == (-5, "big, model", 2)
            assert (source.author, source.vote) == ("own", -1.0)


def test_beyond_the_end_there_is_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, 30)
    assert folder.lines("train", 31, 20) == []
    assert folder.lines("train", 10**9, 20) == []
    assert (folder.count("train"), folder.count("holdout")) == (30, None)
    assert folder.lines("holdout", 1, 20) is None


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    assert write(tmp_path, 300).count("train") == 300
    (tmp_path / "data.jsonl").write_text('{"n": 1}')  # and no newline at its end
    lines = DatasetFolder(tmp_path).lines("train", 1, 20)
    assert [line.body for line in lines or ()] == [b'{"n": 1}']
    (tmp_path / "data.jsonl").unlink()
    assert DatasetFolder(tmp_path).lines("train", 1, 20) is None


def test_a_line_too_long_to_look_at_is_cut_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.web.datasets.folder._LONGEST_LINE", 100)
    monkeypatch.setattr("proxy.web.datasets.folder._BEGINNING", 10)
    (tmp_path / "data.jsonl").write_bytes(b"x" * 1050 + b"\nnext\n" + b"y" * 99 + b"\n" + b"z" * 100 + b"\nlast\n")
    lines = DatasetFolder(tmp_path).lines("train", 1, 20)
    bodies = [line.body for line in lines or ()]
    assert bodies == [b"x" * 10, b"next", b"y" * 99, b"z" * 10, b"last"]


def test_a_lineage_of_an_earlier_version_does_not_tell_lines(tmp_path: Path) -> None:
    folder = write(tmp_path, 3, lineage=["record_id,user,split", "a1,7,train", "b2,,holdout"])
    assert not folder.tells_lines("train", 0)
    assert [line.sources for line in folder.lines("train", 1, 3) or ()] == [(), (), ()]
    assert [(source.record_id, source.user, source.model) for source in folder.newest_sources(5)] == [("a1", 7, None)]
    assert list(folder.record_ids()) == [[b"a1", b"b2"]]


def test_a_lineage_tells_lines_where_it_has_all_but_those_of_rehearsal(tmp_path: Path) -> None:
    folder = write(tmp_path, 600)
    assert folder.tells_lines("train", 200)
    assert not folder.tells_lines("train", 199), "one line is nobody's, and no rehearsal"
    assert not folder.tells_lines("holdout", 200), "there is no such file"
    half = write(tmp_path, 600, lineage=(tmp_path / "lineage.csv").read_text().splitlines()[:300])
    assert not half.tells_lines("train", 200)


def test_what_is_left_are_the_newest_records(tmp_path: Path) -> None:
    folder = write(tmp_path, 200)
    assert [source.line for source in folder.newest_sources(4)] == [200, 200, 199, 197]
    assert DatasetFolder(tmp_path / "none").newest_sources(4) == []


@pytest.mark.parametrize("rows", [["", "x", HEADER, "1,2"], [HEADER, ",,,", "id,x,train,y,m,z,own,w", "id,1,odd,1"]])
def test_rows_that_are_none_are_passed_over(tmp_path: Path, rows: list[str]) -> None:
    folder = write(tmp_path, 5, lineage=rows)
    lines = folder.lines("train", 1, 5)
    assert [line.sources for line in lines or ()] == [()] * 5


@pytest.mark.parametrize("portion", [1, 500, 1 << 20])
def test_records_are_new_gone_or_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    monkeypatch.setattr("proxy.web.datasets.folder._PORTION", portion)

    def lineage(name: str, numbers: range) -> DatasetFolder:
        rows = [HEADER, *(f"{at:032x},,train,1,m,0,own," for at in numbers for _ in range(1 + at % 2))]
        return write(tmp_path / name, 1, lineage=rows)

    former, later = lineage("a", range(100)), lineage("b", range(30, 200))
    found = compare_records(former, later)
    assert found is not None
    assert (found.new, found.gone, found.same) == (100, 30, 70)
    assert found.examples == {
        "new": [f"{at:032x}" for at in range(199, 179, -1)],
        "gone": [f"{at:032x}" for at in range(29, 9, -1)],
        "same": [f"{at:032x}" for at in range(99, 79, -1)],
    }
    assert compare_records(former, DatasetFolder(tmp_path / "none")) is None


def test_counts_and_settings_side_by_side() -> None:
    assert compare_counts({"a": 1, "b": 2, "x": None}, {"b": 3, "c": 4, "x": None}) == [
        {"name": "b", "former": 2, "later": 3},
        {"name": "c", "former": None, "later": 4},
        {"name": "a", "former": 1, "later": None},
    ]
    former = {"server": {"port": 1}, "generator_config": {"exclude": [], "train_on": "last"}}
    later = {"server": {"port": 2}, "generator_config": {"exclude": ["a"], "train_on": "last"}}
    assert changed_settings(former, later) == [
        {"name": "generator_config.exclude", "former": [], "later": ["a"]},
        {"name": "server.port", "former": 1, "later": 2},
    ]


def test_a_manifest_of_any_version_adds_up() -> None:
    old = summary({"seen": 100, "dropped": {"low_quality": 30, "rehearsal_malformed": 9}, "samples": 66})
    assert (old["seen"], old["used"], old["left_out"], old["ancestry"]) == (100, 70, 30, None)
    new = summary(
        {"seen": 100, "records": 60, "dropped": {"low_quality": 40}, "generations": {"0": 20, "1": 30, "3": 11},
         "authors": {"person": 3, "elsewhere": 17, "own": 31}}
    )  # fmt: skip
    assert (new["used"] + new["left_out"], new["ancestry"]) == (100, "61 % by models trained here, 3 generations")
    assert summary({"authors": {"person": 1, "elsewhere": 2, "own": 0}})["ancestry"] == "none by models trained here"


ODD: tuple[object, ...] = (
    None, True, -1, 1.5, "x", [], [1], ["x"], {}, {"a": "b"}, {"a": None}, {"own": [1]}, {"lines": "x"}, {"a": ["x"]},
)  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Manifest)])
async def test_no_member_of_an_edited_manifest_stops_a_reader(tmp_path: Path, name: str) -> None:
    write(tmp_path / "run", 5)
    for odd in ODD:
        (tmp_path / "run" / "manifest.json").write_text(json.dumps({"seen": 5, "dropped": {"x": 1}, name: odd}))
        reader = DatasetReader(tmp_path, None)
        print_dataset(await reader.document("run"))
        assert len(await reader.stretch("run", "train", 1, 20) or ()) == 5, odd


async def test_ids_that_are_none_are_of_no_record(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=SystemClock())
    write(tmp_path / "run", 2, lineage=[HEADER, "x,,train,1,,,,", "\xff,,train,2,,,,", "é" * 32 + ",,train,2,,,,"])
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({"dropped": {"a": 1}, "examples": {"a": ["no id"]}}))
    write(tmp_path / "other", 2, lineage=[HEADER])
    (tmp_path / "other" / "manifest.json").write_text(json.dumps({"samples": 2}))
    try:
        reader = DatasetReader(tmp_path, store)
        assert (await reader.difference("run", "other"))["records"]["gone"] == 0
        assert [line["rows"] for line in await reader.stretch("run", "train", 1, 2) or ()] == [[], []]
        assert (await reader.document("run"))["dropped"][0]["examples"][0]["there"] is False
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("name", "sound"), [("run-1", True), ("..", False), ("a/b", False), ("", False), (".x", False)]
)
def test_a_run_is_never_a_path(name: str, sound: bool) -> None:
    assert is_run_id(name) is sound
