"""The reader gives every frame once and in order, waits for what is on its way, and steps over what is broken."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.serving import SpoolConfig
from proxy.spool import SpoolReader, SpoolWriter
from proxy.spool.frames import KIND_EXCHANGE, KIND_FEEDBACK, encode_frame, file_of, iter_frames
from proxy.spool.layout import seal_of
from proxy.spool.scanning import scan, scan_file
from proxy.spool.seals import HEAD_BYTES, UNSEALED, Keyed, Seal
from tests.harness.frames import end_of, row


def frame(n: int, blob: bytes = b"") -> bytes:
    return encode_frame(KIND_EXCHANGE, {"n": n, "t": 1_700_000_000_000_000 + n}, blob, b"answer")


def next_in(segment: Path, payload: bytes) -> bytes:
    """This frame as the writer of the segment would write it behind what is there."""
    content = segment.read_bytes()
    return seal_of(segment.parent, int(segment.stem), content).of(payload, len(content)) + payload


def numbers(batch_frames: tuple) -> list[int]:  # type: ignore[type-arg]
    return [f.meta["n"] for f in batch_frames]


formats = st.sampled_from([(UNSEALED, 0), (Keyed(b"a secret"), 32), (Keyed(b"another"), 5_000_000_000)])
frames_with_content = st.lists(st.tuples(st.integers(0, 10**9), st.binary(max_size=60)), min_size=1, max_size=8)


@given(frames_with_content, formats, st.data())
def test_any_truncation_of_a_segment_yields_a_prefix(
    contents: list[tuple[int, bytes]], sealed: tuple[Seal, int], data: st.DataObject
) -> None:
    seal, at = sealed
    whole = b"".join(row((frame(n, blob) for n, blob in contents), seal, at))
    cut = data.draw(st.integers(0, len(whole)))
    for final in (False, True):
        found = scan(whole[:cut], max_frames=100, final=final, seal=seal, at=at)
        assert [(f.meta["n"], f.request) for f in found.frames] == contents[: len(found.frames)]
        kept = found.ends[-1] if found.ends else 0
        assert found.offset == (cut if final else kept)
        assert found.skipped == found.offset - kept
        assert not found.damaged
        if cut == len(whole):
            assert len(found.frames) == len(contents)


@given(frames_with_content, formats, st.data())
def test_damage_costs_only_the_frame_it_hits(
    contents: list[tuple[int, bytes]], sealed: tuple[Seal, int], data: st.DataObject
) -> None:
    seal, at = sealed
    encoded = row((frame(n, blob) for n, blob in contents), seal, at)
    hit = data.draw(st.integers(0, len(encoded) - 1))
    byte = data.draw(st.integers(0, len(encoded[hit]) - 1))
    flipped = bytearray(encoded[hit])
    flipped[byte] ^= data.draw(st.integers(1, 255))
    found = scan(
        b"".join([*encoded[:hit], bytes(flipped), *encoded[hit + 1 :]]), max_frames=100, final=True, seal=seal, at=at
    )
    assert [f.meta["n"] for f in found.frames] == [n for i, (n, _) in enumerate(contents) if i != hit]
    assert found.skipped == len(flipped)


@given(st.binary(max_size=300), formats, st.booleans())
def test_arbitrary_bytes_are_never_a_crash(junk: bytes, sealed: tuple[Seal, int], final: bool) -> None:
    seal, at = sealed
    [last] = row([frame(7)], seal, at + len(junk))
    found = scan(junk + last, max_frames=10, final=final, seal=seal, at=at)
    assert found.offset <= len(junk) + len(last)


@given(frames_with_content, st.sampled_from([0, 1]), st.booleans(), st.integers(1, 500), st.data())
def test_a_file_read_in_pieces_says_the_same_as_in_one(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[tuple[int, bytes]],
    damaged: int,
    finished: bool,
    piece: int,
    data: st.DataObject,
) -> None:
    content = bytearray(file_of(frame(n, blob) for n, blob in contents))
    for _ in range(damaged):
        content[data.draw(st.integers(HEAD_BYTES, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("spool") / "0000000001.seg"
    path.write_bytes(content[: data.draw(st.integers(HEAD_BYTES, len(content)))])
    seal, rest = seal_of(path.parent, 1, bytes(content)), path.read_bytes()[HEAD_BYTES:]
    whole = scan(rest, max_frames=5, final=finished, seal=seal, at=HEAD_BYTES)
    found, begin, to_end = scan_file(
        path, 1, 0, finished=finished, max_frames=5, most_bytes=1 << 20, piece=piece
    )  # fmt: skip
    assert begin == HEAD_BYTES
    assert found.frames == whole.frames
    assert found.ends == [HEAD_BYTES + end for end in whole.ends]
    assert (found.offset, found.skipped, found.damaged) == (HEAD_BYTES + whole.offset, whole.skipped, whole.damaged)
    assert to_end or len(found.frames) == 5


def test_what_lies_before_a_fault_of_the_disk_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0000000001.seg"
    path.write_bytes(file_of([frame(n, b"x" * 100) for n in range(20)]))
    read, bad = os.pread, path.stat().st_size // 2

    def faulty(descriptor: int, size: int, at: int) -> bytes:
        if at + size > bad:
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, size, at)

    monkeypatch.setattr(os, "pread", faulty)
    found, _, to_end = scan_file(path, 1, 0, finished=True, max_frames=99, most_bytes=1 << 20, piece=bad // 3)
    assert 0 < len(found.frames) < 20
    assert not to_end
    with pytest.raises(OSError, match="Input/output"):
        scan_file(path, 1, bad, finished=True, max_frames=99, most_bytes=1 << 20)


def test_batches_are_bounded_and_positions_carry_on(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig(segment_bytes=end_of(*[frame(1)] * 10)))
    for n in range(25):
        writer.append(frame(n))
    reader = SpoolReader(tmp_path)
    seen: list[int] = []
    positions: dict[str, tuple[int, int]] = {}
    while batches := reader.poll(positions, max_frames=4):
        (batch,) = batches
        assert len(batch.frames) <= 4
        assert batch.ends[-1] == batch.offset
        seen += numbers(batch.frames)
        positions[batch.writer] = (batch.segment, batch.offset)
    assert seen == list(range(25))
    writer.append(frame(25))
    assert numbers(reader.poll(positions)[0].frames) == [25]
    writer.close()


def test_a_part_of_a_batch_can_be_stored(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    for n in range(5):
        writer.append(frame(n))
    reader = SpoolReader(tmp_path)
    (batch,) = reader.poll({})
    (rest,) = reader.poll({batch.writer: (batch.segment, batch.ends[1])})
    assert numbers(rest.frames) == [2, 3, 4]
    writer.close()


def test_writers_are_read_side_by_side(tmp_path: Path) -> None:
    writers = [SpoolWriter(tmp_path, SpoolConfig(), index=index) for index in range(3)]
    for n, writer in enumerate(writers):
        writer.append(frame(n))
    batches = SpoolReader(tmp_path).poll({})
    assert {batch.writer: numbers(batch.frames) for batch in batches} == {w.name: [n] for n, w in enumerate(writers)}
    for writer in writers:
        writer.close()


def test_a_batch_that_is_not_full_shows_by_its_bytes_that_there_is_more(tmp_path: Path) -> None:
    """How much is read at a time follows from how long the frames were: that these are longer must hold up nothing."""
    writer = SpoolWriter(tmp_path, SpoolConfig())
    reader = SpoolReader(tmp_path)
    writer.append(frame(0))
    (batch,) = reader.poll({}, max_frames=1000)
    blob = bytes(5000)
    for n in range(1, 1001):
        writer.append(frame(n, blob))
    seen = numbers(batch.frames)
    (batch,) = reader.poll({batch.writer: (batch.segment, batch.offset)}, max_frames=1000)
    assert batch.offset - batch.start > 2 << 20
    while len(seen) < 1001:
        seen += numbers(batch.frames)
        found = reader.poll({batch.writer: (batch.segment, batch.offset)}, max_frames=1000)
        batch = found[0] if found else batch
    assert seen == list(range(1001))
    writer.close()


def test_a_frame_larger_than_the_window_is_read_whole(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    large = random.Random(1).randbytes(9_000_000)
    writer.append(frame(1, large))
    writer.append(frame(2))
    reader = SpoolReader(tmp_path)
    (batch,) = reader.poll({})
    assert batch.frames[0].request == large
    writer.close()


def test_an_incomplete_frame_of_a_living_writer_is_awaited(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    writer.append(frame(1))
    segment = tmp_path / writer.name / "0000000001.seg"
    second = next_in(segment, frame(2))
    with segment.open("ab") as file:
        file.write(second[:-3])
    reader = SpoolReader(tmp_path)
    (batch,) = reader.poll({})
    assert numbers(batch.frames) == [1]
    at = {writer.name: (batch.segment, batch.offset)}
    assert reader.poll(at) == []
    with segment.open("ab") as file:
        file.write(second[-3:])
    assert numbers(reader.poll(at)[0].frames) == [2]
    writer.close()


def test_the_torn_tail_of_a_dead_writer_is_skipped_once(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    writer.append(frame(1))
    writer.close()
    segment = tmp_path / writer.name / "0000000001.seg"
    second = next_in(segment, frame(2))
    with segment.open("ab") as file:
        file.write(second[:-1])
    reader = SpoolReader(tmp_path)
    (batch,) = reader.poll({})
    assert numbers(batch.frames) == [1]
    assert batch.skipped_bytes == len(second) - 1
    at = {writer.name: (batch.segment, batch.offset)}
    assert reader.poll(at) == []
    assert reader.forget(at) == [writer.name]
    assert list(tmp_path.iterdir()) == []


def test_a_torn_frame_that_a_later_segment_follows_is_skipped_even_while_its_writer_lives(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig(segment_bytes=end_of(frame(1))))
    writer.append(frame(1))
    with (tmp_path / writer.name / "0000000001.seg").open("ab") as file:
        file.write(b"\x99" * 7)
    writer.append(frame(2))
    reader = SpoolReader(tmp_path)
    (first,) = reader.poll({})
    assert (numbers(first.frames), first.skipped_bytes) == ([1], 7)
    (second,) = reader.poll({writer.name: (first.segment, first.offset)})
    assert numbers(second.frames) == [2]
    writer.close()


def test_a_damaged_segment_is_kept_for_a_person(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    for n in range(3):
        writer.append(frame(n))
    writer.close()
    segment = tmp_path / writer.name / "0000000001.seg"
    data = bytearray(segment.read_bytes())
    data[end_of(frame(0)) + 30] ^= 0xFF
    segment.write_bytes(data)
    reader = SpoolReader(tmp_path)
    (batch,) = reader.poll({})
    assert numbers(batch.frames) == [0, 2]
    at = {writer.name: (batch.segment, batch.offset)}
    assert reader.forget(at) == []
    assert segment.with_suffix(".damaged").read_bytes() == bytes(data)
    assert reader.poll(at) == []


def test_forget_deletes_only_what_is_stored(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig(segment_bytes=end_of(frame(1))))
    for n in range(3):
        writer.append(frame(n))
    reader = SpoolReader(tmp_path)
    size = end_of(frame(1))
    assert reader.forget({writer.name: (2, size)}) == []
    names = sorted(path.name for path in (tmp_path / writer.name).glob("*.seg"))
    assert names == ["0000000002.seg", "0000000003.seg"], "a living writer's last segments stay"
    assert reader.poll({writer.name: (1, 10)})[0].segment == 2, "a position from an older backup finds what is left"
    writer.close()
    assert reader.forget({writer.name: (3, size - 1)}) == []
    assert reader.forget({writer.name: (3, size)}) == [writer.name]
    assert reader.forget({writer.name: (3, size)}) == [writer.name]


def test_a_writer_that_died_before_its_first_frame_leaves_nothing_behind(tmp_path: Path) -> None:
    silent = SpoolWriter(tmp_path, SpoolConfig(), index=1)
    living = SpoolWriter(tmp_path, SpoolConfig(), index=2)
    begun = SpoolWriter(tmp_path, SpoolConfig(), index=3)
    begun.append(frame(1))
    silent.close()
    begun.close()
    (tmp_path / begun.name / "0000000002.seg").touch()  # killed right after it had rotated
    reader = SpoolReader(tmp_path)
    assert reader.forget({}) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, begun.name]
    assert reader.forget({begun.name: (1, end_of(frame(1)))}) == [begun.name]
    living.close()


def test_usage_tells_bytes_and_age_of_what_is_not_stored(tmp_path: Path) -> None:
    reader = SpoolReader(tmp_path / "spool")
    assert reader.usage({}).oldest_at is None
    writer = SpoolWriter(tmp_path / "spool", SpoolConfig())
    writer.append(frame(0))
    writer.append(encode_frame(KIND_FEEDBACK, {"t": 1_700_000_005_000_000, "votes": []}))
    before = reader.usage({})
    assert (before.pending_bytes, before.oldest_at, before.writers) == (before.bytes, 1_700_000_000.0, 1)
    first = reader.usage({writer.name: (1, end_of(frame(0)))})
    assert first.oldest_at == pytest.approx(1_700_000_005.0)
    assert first.pending_bytes == before.bytes - end_of(frame(0))
    after = reader.usage({writer.name: (1, before.bytes)})
    assert (after.pending_bytes, after.oldest_at) == (0, None)
    writer.close()


def kept(writer: SpoolWriter, root: Path, number: int = 1) -> bytes:
    return (root / writer.name / f"{number:010d}.seg").read_bytes()


def test_what_is_stored_is_overwritten_and_the_writer_goes_on(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    reader = SpoolReader(tmp_path)
    positions: dict[str, tuple[int, int]] = {}
    for n, said in enumerate((b"SECRET one", b"SECRET two")):
        writer.append(frame(n, said))
        writer.append(frame(10 + n, b"later"))
        (batch,) = reader.poll(positions, max_frames=1 + n)
        positions = {batch.writer: (batch.segment, batch.offset)}
        assert reader.wipe(positions) > 0
        assert b"SECRET one" not in kept(writer, tmp_path)
    assert reader.wipe(positions) == 0
    (rest,) = reader.poll(positions)
    assert numbers(rest.frames) == [11], "what is not stored stays readable"
    assert SpoolReader(tmp_path).wipe(positions) == positions[writer.name][1] - HEAD_BYTES, "after a restart once more"
    assert numbers(SpoolReader(tmp_path).poll(positions)[0].frames) == [11]
    writer.close()


def test_what_a_deletion_has_overwritten_is_no_damage_when_it_is_read_again(tmp_path: Path) -> None:
    """A file kept as damaged would stay for ever, with what others have said behind it."""
    writer = SpoolWriter(tmp_path, SpoolConfig(fsync="never"))
    for n in range(3):
        writer.append(frame(n))
    [batch] = SpoolReader(tmp_path).poll({})
    SpoolReader(tmp_path).wipe({writer.name: (batch.segment, batch.offset)})
    writer.append(frame(3))
    writer.close()
    reader = SpoolReader(tmp_path, keep_s=900.0)  # the database went back behind it, and all begins anew
    [again] = reader.poll({})
    assert numbers(again.frames) == [3]
    reader.forget({writer.name: (again.segment, again.offset)})
    assert not list(tmp_path.rglob("*.damaged"))


def test_earlier_segments_are_overwritten_whole_and_later_ones_left(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig(segment_bytes=1))
    for n in range(3):
        writer.append(frame(n, b"SECRET"))
    reader = SpoolReader(tmp_path)
    (batch,) = reader.poll({writer.name: (1, len(kept(writer, tmp_path)))}, max_frames=1)
    reader.wipe({writer.name: (batch.segment, batch.offset)})
    assert [b"SECRET" in kept(writer, tmp_path, number) for number in (1, 2, 3)] == [False, False, True]
    writer.close()


def test_it_is_known_when_all_is_stored_that_was_written_before(tmp_path: Path) -> None:
    writer, other = (SpoolWriter(tmp_path, SpoolConfig(), index=index) for index in range(2))
    reader = SpoolReader(tmp_path)
    assert reader.reached(reader.ends(), {})
    writer.append(frame(1))
    ends = reader.ends()
    writer.append(frame(2))
    assert not reader.reached(ends, {})
    (batch,) = reader.poll({}, max_frames=1)
    at = {batch.writer: (batch.segment, batch.offset)}
    assert (reader.reached(ends, at), reader.reached(reader.ends(), at)) == (True, False)
    for each in (writer, other):
        each.close()
    reader.forget({writer.name: (2, 0)})
    assert reader.reached(ends, {}), "what is gone from the spool was stored"


@pytest.mark.parametrize("old", [True, False])
def test_of_what_was_set_aside_others_frames_are_kept(tmp_path: Path, old: bool) -> None:
    metas = [{"key": 1}, {"key": 2}, {"key": None}, {}, {"key": "?"}]
    frames = [encode_frame(KIND_EXCHANGE, meta, b"body") for meta in metas]
    frames += [encode_frame(KIND_FEEDBACK, {"key": 2}), encode_frame(KIND_EXCHANGE, b"[1]")]
    (tmp_path / "rejected.frames").write_bytes(b"".join(row(frames)) if old else file_of(frames))
    writer = SpoolWriter(tmp_path, SpoolConfig())
    writer.append(frame(1))
    damaged = tmp_path / writer.name / "0000000007.damaged"
    damaged.write_bytes(b"nobody knows whose")
    assert SpoolReader(tmp_path).drop_aside("rejected.frames", {1}) == 6
    left = iter_frames((tmp_path / "rejected.frames").read_bytes())
    assert [f.meta for f, _ in left] == [{"key": 2}, {"key": None}]
    assert not damaged.exists()
    writer.close()


def test_what_a_killed_writer_was_making_does_not_keep_its_directory(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    writer.close()
    (tmp_path / writer.name / "probe.tmp").write_bytes(b"half")
    SpoolReader(tmp_path).forget({})
    assert not (tmp_path / writer.name).exists()
