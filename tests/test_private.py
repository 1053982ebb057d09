"""What we create is for this user alone, in a process whose umask is not ours, too."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import ContinuousLearningLoop, DataGeneratorConfig, LoopConfig, TriggerConfig
from proxy.loop.dataset.deletion import delete_users
from proxy.private import create, looser, make_folder, open_private, replace_private, without_secrets, write_private


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """An application that lets everybody read."""
    before = os.umask(0)
    yield
    assert os.umask(before) == 0  # nobody has changed it for the application


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_those_above_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a")
    assert [mode(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3
    assert mode(tmp_path) == 0o755  # it was there before


def test_files_however_they_are_opened(tmp_path: Path) -> None:
    write_private(tmp_path / "text", "größer")
    write_private(tmp_path / "bytes", b"\0")
    replace_private(tmp_path / "text", "größer")
    replace_private(tmp_path / "bytes", b"\0", durable=True)
    for opened in ("wb", "ab", "w"):
        with open_private(tmp_path / opened, opened):  # type: ignore[arg-type]
            pass
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    assert (tmp_path / "text").read_bytes() == "größer".encode()


def test_a_file_is_had_whether_or_not_it_was_there(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("text")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("new", "full", "link"):
        create(tmp_path / name)
    assert mode(tmp_path / "new") == mode(tmp_path / "elsewhere") == 0o600
    assert (tmp_path / "full").read_text() == "text"
    with pytest.raises(IsADirectoryError):
        create(tmp_path)


def test_what_is_looser_is_said_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o640)
    (tmp_path / "folder").mkdir(0o701)
    (tmp_path / "mine").touch(0o600)
    said = list(looser(tmp_path / name for name in ("file", "folder", "mine", "nothing")))
    assert len(said) == 2
    assert said[0].endswith(f"chmod 600 {tmp_path / 'file'}")
    assert said[1].endswith(f"chmod 700 {tmp_path / 'folder'}")


def test_children_get_the_environment_without_our_settings() -> None:
    environ = {"PATH": "/bin", "OPENAI_API_KEY": "k", "RATCHET_ADMIN__TOKEN": "s", "RATCHET_STORE__URL": "p",
               "RATCHET_ADMIN_TOKEN": "s", "RATCHET_URL": "http://127.0.0.1:8080"}  # fmt: skip
    assert without_secrets(environ) == {
        "PATH": "/bin", "OPENAI_API_KEY": "k", "RATCHET_URL": "http://127.0.0.1:8080",
    }  # fmt: skip


def test_the_library_lets_nobody_else_read(tmp_path: Path) -> None:
    seen: list[Path] = []

    def train(data_path: str) -> dict[str, object]:
        folder = Path(data_path).parent
        seen.extend([folder, *folder.iterdir()])
        write_private(tmp_path / "weights", "1")
        return {"model_path": str(tmp_path / "weights"), "loss": 0.1}

    settings = LoopConfig(
        db_path=str(tmp_path / "usage" / "r.db"),
        output_dir=str(tmp_path / "training"),
        models_dir=str(tmp_path / "models"),
        trigger_config=TriggerConfig(min_usable_samples=1),
        generator_config=DataGeneratorConfig(near_duplicate_threshold=1.0, holdout_share=0.0),
    )
    with ContinuousLearningLoop(settings) as loop:
        for number in range(8):
            said = f"the answer to number {number} is {number * 31}"
            loop.log_usage(f"question {number}", said, "m", quality_score=0.9, user=f"user {number}")
        assert loop.trigger(train, why="now")["retrain"]["status"] == "completed"
        made = [path for path in tmp_path.rglob("*") if not path.is_socket()]
        loose = {str(path): oct(mode(path)) for path in (*made, *seen) if path.exists() and mode(path) & 0o077}
    assert {path.name for path in made} >= {"r.db", "r.db-wal", "keys.json", "training", "models"}
    assert any(path.name == "data.jsonl" for path in seen)
    assert loose == {}


def test_a_dataset_without_a_deleted_user_is_as_private_as_it_was(tmp_path: Path) -> None:
    write_private(tmp_path / "data.jsonl", "1\n2\n")
    write_private(tmp_path / "manifest.json", '{"samples": 2}')
    write_private(tmp_path / "lineage.csv", "record_id,user,split,line\nr1,7,train,1\nr2,8,train,2\n")
    assert delete_users(tmp_path, {7}, "2026-01-31T00:00:00+00:00").lines == 1
    assert (tmp_path / "data.jsonl").read_text() == "2\n"
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("data.jsonl", "manifest.json", "lineage.csv"), 0o600
    )


def test_what_a_training_said_of_its_failure_is_for_this_user(tmp_path: Path) -> None:
    def train(data_path: str) -> dict[str, object]:
        raise ValueError("a sample: it is 31")

    settings = LoopConfig(
        db_path=str(tmp_path / "r.db"),
        output_dir=str(tmp_path / "training"),
        trigger_config=TriggerConfig(min_usable_samples=1),
        generator_config=DataGeneratorConfig(near_duplicate_threshold=1.0, holdout_share=0.0),
    )
    with ContinuousLearningLoop(settings) as loop:
        for number in range(8):
            said = f"the answer to number {number} is {number * 31}"
            loop.log_usage(f"question {number}", said, "m", quality_score=0.9, user=f"user {number}")
        assert loop.trigger(train, why="now")["retrain"]["status"] == "failed"
    [kept] = (tmp_path / "training").rglob("failure.txt")
    assert "a sample: it is 31" in kept.read_text()
    assert mode(kept) == 0o600
