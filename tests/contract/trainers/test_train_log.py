"""The bounded log: beginning and end are there, the file is never too large, and what is left out is counted."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.loop.adapters.trainers.train_log import TrainLog

LIMIT = 64 * 1024
LEFT_OUT = re.compile(rb"\[ratchet\] ([\d,]+) bytes of this log were left out here\n")


def numbered(path: Path, lines: range) -> list[int]:
    return [int(line) for line in path.read_bytes().split() if line.isdigit() and int(line) in lines]


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    path, lines = tmp_path / "train.log", range(100_000, 130_000)
    log = TrainLog(path, limit=LIMIT)
    for line in lines:
        log.write(b"%d\n" % line)
        assert line % 500 or path.stat().st_size <= LIMIT
    content = path.read_bytes()
    ((first, second),) = [match.span() for match in LEFT_OUT.finditer(content)]
    numbers = numbered(path, lines)
    assert numbers[: first // 7] == list(lines[: first // 7])
    end = [int(line) for line in content[second:].split()]
    assert end == list(lines[-len(end) :])
    assert len(end) * 7 >= LIMIT // 4 - 4096
    match = LEFT_OUT.search(content)
    assert match is not None
    assert int(match[1].replace(b",", b"")) == 7 * (len(lines) - first // 7 - len(end))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from([b"x", b"line\n", b"\r", b"\x00", "é".encode()]), st.integers(1, 60_000)),
        max_size=12,
    )
)
def test_whatever_is_written_is_kept_or_counted(tmp_path: Path, pieces: list[tuple[bytes, int]]) -> None:
    path = tmp_path / "train.log"
    path.unlink(missing_ok=True)
    log = TrainLog(path, limit=LIMIT)
    log.write(b"begin")
    whole = b"begin"
    for word, times in pieces:
        log.write(word * times)
        whole += word * times
        assert path.stat().st_size <= LIMIT
    content = path.read_bytes()
    match = LEFT_OUT.search(content)
    if match is None:
        assert content == whole
        return
    first, last = content[: match.start()], content[match.end() :]
    first = first if whole.startswith(first) else first.removesuffix(b"\n")
    assert whole.startswith(first)
    assert whole.endswith(last)
    assert len(whole) - len(first) - len(last) == int(match[1].replace(b",", b""))


def test_an_emptied_log_begins_again_and_nothing_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    log = TrainLog(path, limit=LIMIT)
    log.write(b"secret\n" * 50_000)
    os.truncate(path, 0)
    log.write(b"public\n" * 50_000)
    assert b"secret" not in path.read_bytes()
    assert path.read_bytes().startswith(b"public\n")
    assert LEFT_OUT.search(path.read_bytes()) is not None


def test_a_removed_log_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    log = TrainLog(path)
    log.write(b"one\n")
    path.unlink()
    log.write(b"two\n")
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_mode & 0o077 == 0


def test_what_can_not_be_written_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "away" / "train.log"
    log = TrainLog(path)
    log.write(b"1234567890")
    path.parent.mkdir()
    log.say("here again")
    assert path.read_text() == (
        "\n[ratchet] 10 bytes could not be written here: No such file or directory\n[ratchet] here again\n"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_raises_nothing() -> None:
    log = TrainLog(Path("/dev/full"))
    log.write(b"x")
    log.say("x")
