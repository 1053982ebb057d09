"""The writer never fails a request: what the disk refuses is counted, what it took in part is cut off again."""

from __future__ import annotations

import errno
import os
import queue
import re
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.config.serving import SpoolConfig
from proxy.spool import SpoolReader, SpoolWriter, is_alive
from proxy.spool.frames import KIND_EXCHANGE, encode_frame, iter_frames
from tests.harness.frames import end_of

FRAME = encode_frame(KIND_EXCHANGE, {"id": "a" * 32, "t": 1_700_000_000_000_000}, b"question", b"answer")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB. Mounting needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def read_all(root: Path) -> list[bytes]:
    return [frame.request for batch in SpoolReader(root).poll({}, max_frames=10**6) for frame in batch.frames]


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    for n in range(100):
        assert writer.append(encode_frame(KIND_EXCHANGE, {"id": n}, b"%d" % n))
    assert read_all(tmp_path) == [b"%d" % n for n in range(100)]
    writer.close()


def test_segments_rotate_and_none_is_over_its_size(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig(segment_bytes=end_of(*[FRAME] * 3)))
    for _ in range(10):
        assert writer.append(FRAME)
    writer.close()
    sizes = [path.stat().st_size for path in sorted((tmp_path / writer.name).glob("*.seg"))]
    assert sizes == [end_of(*[FRAME] * 3)] * 3 + [end_of(FRAME)]
    assert not writer.append(FRAME), "a closed writer takes nothing more"


def test_a_frame_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig(segment_bytes=100))
    assert writer.append(encode_frame(KIND_EXCHANGE, {"id": 1}, b"x" * 1000))
    writer.close()
    assert read_all(tmp_path) == [b"x" * 1000]


def test_the_lock_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    assert is_alive(tmp_path / writer.name)
    writer.close()
    writer.close()
    assert not is_alive(tmp_path / writer.name)


def test_the_cap_counts_every_writer_of_the_host(tmp_path: Path) -> None:
    drops: Counter[str] = Counter()
    config = SpoolConfig(max_bytes=end_of(*[FRAME] * 3) + end_of(*[FRAME] * 2) + 1)
    first = SpoolWriter(tmp_path, config, index=0)
    assert [first.append(FRAME) for _ in range(3)] == [True] * 3
    second = SpoolWriter(tmp_path, config, index=1, on_drop=lambda reason: drops.update([reason]))
    assert [second.append(FRAME) for _ in range(4)] == [True, True, False, False]
    assert drops == {"spool_full": 2}
    assert not second.full, "a smaller frame would still fit"
    first.close()
    second.close()


def test_a_disk_that_is_full_costs_records_only_and_recovers(small_disk: Path) -> None:
    drops: Counter[str] = Counter()
    writer = SpoolWriter(small_disk / "spool", SpoolConfig(), on_drop=lambda reason: drops.update([reason]))
    big = encode_frame(KIND_EXCHANGE, {"id": 1}, b"x" * 50_000)
    taken = [writer.append(big) for _ in range(10)]
    assert drops == {"disk_full": 10 - taken.index(False)}
    assert writer.full
    segment = small_disk / "spool" / writer.name / "0000000001.seg"
    assert segment.stat().st_size == end_of(*[big] * taken.count(True)), "the part of a frame that fitted is cut off"
    assert len(iter_frames(segment.read_bytes())) == taken.count(True)
    assert writer.append(FRAME), "a smaller one still fits"
    writer.close()
    assert len(read_all(small_disk / "spool")) == taken.count(True) + 1


def test_a_short_write_is_cut_back_to_the_frame_boundary(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel take only a part of a frame, on any file system."""
    program = f"""
import resource, signal, sys
from pathlib import Path
from proxy.clock import ManualClock
from proxy.config.serving import SpoolConfig
from proxy.spool import SpoolWriter
frame = {FRAME!r}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
drops = []
writer = SpoolWriter(Path(sys.argv[1]), SpoolConfig(), on_drop=drops.append)
limit = {end_of(FRAME, FRAME) + 5}
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
print([writer.append(frame) for _ in range(4)], drops)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(writer.append(frame))
writer.close()
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[True, True, False, False] ['disk_full', 'disk_full']", "True"]
    assert read_all(tmp_path) == [b"question"] * 3


def test_a_disk_that_fails_is_counted_apart(tmp_path: Path) -> None:
    drops: Counter[str] = Counter()
    writer = SpoolWriter(tmp_path, SpoolConfig(), on_drop=lambda reason: drops.update([reason]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # the first segment cannot be opened: EMFILE
    try:
        assert not writer.append(FRAME)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert drops == {"io_error": 1}
    assert writer.append(FRAME), "and when it works again, so does the spool"
    writer.close()


def test_a_killed_process_loses_nothing_that_append_returned_for(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from proxy.clock import ManualClock
from proxy.config.serving import SpoolConfig
from proxy.spool import SpoolWriter
from proxy.spool.frames import KIND_EXCHANGE, encode_frame
writer = SpoolWriter(Path(sys.argv[1]), SpoolConfig(fsync="never", segment_bytes=1000))
for n in range(10**9):
    writer.append(encode_frame(KIND_EXCHANGE, {"id": n}, b"%d" % n))
    print(n, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        for _ in range(200):
            out.readline()
        process.send_signal(signal.SIGKILL)
        rest = out.read().splitlines()
    process.wait()
    confirmed = 200 + len(rest)
    found = drain(tmp_path)
    assert found[:confirmed] == [b"%d" % n for n in range(confirmed)]
    assert len(found) <= confirmed + 1


def drain(root: Path) -> list[bytes]:
    reader, positions = SpoolReader(root), {}
    found: list[bytes] = []
    while batches := reader.poll(positions):
        for batch in batches:
            found += [frame.request for frame in batch.frames]
            positions[batch.writer] = (batch.segment, batch.offset)
    return found


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_what_is_appended_reaches_the_disk(tmp_path: Path, fsync: str, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    real = os.fdatasync

    def watch(descriptor: int) -> None:
        real(descriptor)
        synced.set()

    monkeypatch.setattr(os, "fdatasync", watch)
    writer = SpoolWriter(tmp_path, SpoolConfig(fsync=fsync, fsync_interval_seconds=0.02))  # type: ignore[arg-type]
    writer.append(FRAME)
    assert synced.wait(120)
    writer.close()


def test_a_failing_fsync_is_told_and_serving_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    config = SpoolConfig(fsync_interval_seconds=0.02)
    writer = SpoolWriter(tmp_path, config, on_sync_error=told.set)
    assert writer.append(FRAME)
    assert told.wait(120)
    assert writer.append(FRAME)
    writer.close()


def failing(calls: list[int], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on this system call fails for as often as the list says."""
    real = getattr(os, name)

    def call(*args: object) -> object:
        if calls and calls[0]:
            calls[0] -= 1
            raise OSError(errno.EIO, "input/output error")
        return real(*args)

    monkeypatch.setattr(os, name, call)


def test_a_disk_that_fails_every_record_is_said_once_a_minute_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drops: Counter[str] = Counter()
    clock = ManualClock()
    writer = SpoolWriter(tmp_path, SpoolConfig(), clock=clock, on_drop=lambda reason: drops.update([reason]))
    left = [1500]
    failing(left, monkeypatch, "writev")
    for n in range(1500):
        assert not writer.append(FRAME)
        clock.advance(0.1 if n else 0.0)
    assert writer.trouble == "io_error"
    lines = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert len(lines) == 3, "150 s"
    assert re.search(r"\((599|600|601) more since the last line like this\)$", lines[-1])
    assert drops == {"io_error": 1500}
    assert writer.append(FRAME)
    assert writer.trouble is None
    writer.close()


def test_a_frame_that_could_not_be_synced_is_not_said_to_be_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    writer = SpoolWriter(tmp_path, SpoolConfig(fsync="always"), on_sync_error=lambda: failures.append(1))
    left = [2]
    failing(left, monkeypatch, "fdatasync")
    assert not writer.append_synced(FRAME)
    assert writer.trouble == "fsync"
    assert writer.append(FRAME), "a record is taken all the same"
    assert len(failures) == 2
    assert writer.append_synced(FRAME)
    assert writer.trouble is None
    left[0] = 10**6
    writer.close()
    interval = SpoolWriter(tmp_path, SpoolConfig(fsync="interval"))
    assert interval.append_synced(FRAME), "what may take a second takes it"
    left[0] = 0
    interval.close()
    assert len(read_all(tmp_path)) == 4


def test_a_spool_that_could_not_be_made_is_made_later(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    root.write_text("in the way")
    told: queue.Queue[tuple[str | None, str | None]] = queue.Queue()
    config = SpoolConfig(fsync_interval_seconds=0.02)
    writer = SpoolWriter(root, config, on_trouble=lambda now, before: told.put((now, before)))
    assert not writer.append(FRAME)
    assert told.get(timeout=60) == ("io_error", None)
    root.unlink()
    while not writer.append(FRAME):
        pass
    assert told.get(timeout=60) == (None, "io_error")
    writer.close()
    assert read_all(root) == [b"question"]
