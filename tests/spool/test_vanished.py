"""Files that somebody removes under a writer are back within a second or two, with every frame, and no frame twice."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.config.serving import SpoolConfig
from proxy.spool import SpoolReader, SpoolWriter, is_alive
from proxy.spool.frames import KIND_EXCHANGE, encode_frame
from proxy.spool.layout import LOCK_FILE, segment_name

NOTICED_S = 60.0  # a second, on a machine that is not busy


def frame(n: int, body: bytes = b"") -> bytes:
    return encode_frame(KIND_EXCHANGE, {"n": n, "t": 1}, body)


class House:
    """A writer, and a reader that keeps its positions as the store does."""

    def __init__(self, root: Path, **settings: int) -> None:
        self.root = root / "data" / "spool"
        self.vanished = threading.Event()
        self.lost: list[int] = []
        self.drops: list[str] = []
        config = SpoolConfig(fsync_interval_seconds=0.05, **settings)
        self.writer = SpoolWriter(self.root, config, on_vanished=self._tell, on_drop=self.drops.append)
        self.reader = SpoolReader(self.root)
        self.positions: dict[str, tuple[int, int]] = {}
        self.read: list[int] = []

    def _tell(self, frames: int) -> None:
        self.lost.append(frames)
        self.vanished.set()

    def write(self, *numbers: int) -> None:
        assert all(self.writer.append(frame(n)) for n in numbers)

    def store(self, *, max_frames: int = 500) -> list[int]:
        for batch in self.reader.poll(self.positions, max_frames=max_frames):
            self.read += [each.meta["n"] for each in batch.frames]
            self.positions[batch.writer] = (batch.segment, batch.offset)
        return self.read

    @property
    def folder(self) -> Path:
        return self.root / self.writer.name


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.writer.close()


def replace(path: Path) -> None:
    path.with_name("x").touch()
    path.with_name("x").rename(path)


REMOVALS: dict[str, Callable[[House], object]] = {
    "the writer's folder": lambda house: shutil.rmtree(house.folder),
    "the spool": lambda house: shutil.rmtree(house.root),
    "the data folder": lambda house: shutil.rmtree(house.root.parent),
    "the open segment": lambda house: (house.folder / segment_name(1)).unlink(),
    "the lock": lambda house: (house.folder / LOCK_FILE).unlink(),
    "all files in it": lambda house: [path.unlink() for path in house.folder.iterdir()],
    "a folder that is moved away": lambda house: house.root.rename(house.root.with_name("elsewhere")),
    "another file in place of the lock": lambda house: replace(house.folder / LOCK_FILE),
}  # fmt: skip


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_is_removed_is_back_with_all_that_was_acknowledged(house: House, removal: str) -> None:
    house.write(0, 1, 2)
    assert house.store(max_frames=2) == [0, 1]
    REMOVALS[removal](house)
    house.write(3)
    assert house.vanished.wait(NOTICED_S)
    house.write(4)
    assert is_alive(house.folder), "whoever looks sees a living writer"
    assert house.store() == [0, 1, 2, 3, 4], "each once"
    assert (house.lost, house.drops) == ([0], [])


def test_a_writer_without_a_frame_gets_its_folder_back(house: House) -> None:
    shutil.rmtree(house.root)
    house.write(0)
    assert house.vanished.is_set()
    assert house.store() == [0]


def test_it_is_noticed_again_and_again_and_while_frames_come(house: House) -> None:
    going = threading.Event()
    house.write(0)
    written = 1

    def remove() -> None:
        for _ in range(3):
            house.vanished.clear()
            shutil.rmtree(house.root.parent, ignore_errors=True)
            house.vanished.wait(NOTICED_S)
        going.set()

    remover = threading.Thread(target=remove)
    remover.start()
    while not going.is_set():
        house.write(written)
        written += 1
        going.wait(0.0002)
    remover.join()
    while len(house.store()) < written:
        pass
    assert house.read == [*range(written)]
    assert house.drops == []


def test_a_stop_right_after_the_removal_loses_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.write(0, 1)
    shutil.rmtree(house.root)
    house.writer.close()
    assert house.store() == [0, 1]


def test_frames_of_earlier_segments_that_went_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = House(tmp_path, segment_bytes=200)
    house.write(*range(9))
    kept = len(os.listdir(house.folder)) - 1
    shutil.rmtree(house.folder)
    assert house.vanished.wait(NOTICED_S)
    house.writer.close()
    assert house.lost == [9 - len(house.store())]
    assert house.read[-1] == 8
    assert kept > 1
    assert f"frames of {kept - 1} earlier segments" in caplog.text


def test_a_segment_is_not_left_behind_while_it_is_gone(tmp_path: Path) -> None:
    """A full one whose name was removed stays the open one, so that it can be put back before the next."""
    house = House(tmp_path, segment_bytes=300)
    house.write(0)
    (house.folder / segment_name(1)).unlink()
    for n in range(1, 8):
        house.write(n)
    assert house.vanished.wait(NOTICED_S)
    house.write(8)
    house.store()
    assert house.store() == [*range(9)]
    house.writer.close()


def test_where_it_cannot_be_made_again_frames_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    house.write(0)
    caplog.set_level(logging.INFO)
    shutil.rmtree(house.root)
    house.root.write_text("a file where the folder was")
    written = 0
    while house.writer.append(frame(1 + written)):
        written += 1
    assert house.drops == ["io_error"]
    assert house.writer.trouble == "removed"
    assert not house.writer.append(frame(-1))
    house.root.unlink()
    assert house.vanished.wait(NOTICED_S)
    house.write(-2)
    assert house.writer.trouble is None
    while -2 not in house.store():
        pass
    assert house.read == [*range(1 + written), -2]
    house.writer.close()
    assert caplog.text.count("records are dropped until they can") == 1, "once, not once a second"
