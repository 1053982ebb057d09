"""A frame is what its writer sealed, at its place: bytes inside a body never are, whatever they look like."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.serving import SpoolConfig
from proxy.spool import SpoolReader, SpoolWriter
from proxy.spool.frames import KIND_EXCHANGE, KIND_FEEDBACK, add_frame, encode_frame, iter_frames
from proxy.spool.layout import LOCK_FILE, segment_name
from proxy.spool.seals import HEAD_BYTES, UNSEALED, Keyed, Seal
from tests.harness.frames import end_of, row

VOTES = [encode_frame(KIND_FEEDBACK, {"t": 1, "votes": [{"fid": f"{n:032x}"}]}) for n in range(50)]


def exchange(n: int, body: bytes = b"") -> bytes:
    return encode_frame(KIND_EXCHANGE, {"n": n, "t": 1}, body)


def all_read(root: Path) -> list[int]:
    reader, positions, found = SpoolReader(root), {}, []
    while batches := reader.poll(positions):
        for batch in batches:
            found += [frame.meta.get("n", -1) for frame in batch.frames]
            positions[batch.writer] = (batch.segment, batch.offset)
    assert reader.reached(reader.ends(), positions), "all is dealt with"
    reader.forget(positions)
    return found


def elsewhere(root: Path) -> bytes:
    """The same votes in a spool of another install."""
    writer = SpoolWriter(root, SpoolConfig())
    for vote in VOTES:
        writer.append(vote)
    writer.close()
    return (root / writer.name / segment_name(1)).read_bytes()


@pytest.mark.parametrize("forged", ["of before seals", "of another install", "of this place", "whole segment"])
@pytest.mark.parametrize("damage", ["cut short", "length", "in the body", "in the head"])
def test_frames_in_a_body_are_no_frames_after_damage(tmp_path: Path, forged: str, damage: str) -> None:
    other = elsewhere(tmp_path / "other")
    writer = SpoolWriter(tmp_path / "spool", SpoolConfig())
    writer.append(exchange(0))
    path = tmp_path / "spool" / writer.name / segment_name(1)
    before = path.stat().st_size
    inside = {
        "of before seals": b"".join(row(VOTES)),
        "of another install": other[HEAD_BYTES:],
        "of this place": b"".join(row(VOTES, Keyed(b"guessed"), before + 4096)),
        "whole segment": other,
    }[forged]
    writer.append(exchange(1, inside + b"x" * 60_000))
    if damage != "cut short":
        writer.append(exchange(2))
    writer.close()
    content = bytearray(path.read_bytes())
    match damage:
        case "cut short":
            del content[-30_000:]
        case "length":
            content[before] ^= 1
        case "in the body":
            content[before + 40] ^= 0xFF
        case _:
            content[3] ^= 0xFF
    path.write_bytes(content)
    expected = {"cut short": [0], "in the head": [0, 1, 2]}.get(damage, [0, 2])
    assert all_read(tmp_path / "spool") == expected


def test_a_frame_copied_within_its_segment_is_none(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    writer.append(exchange(0))
    path = tmp_path / writer.name / segment_name(1)
    mine = path.read_bytes()[HEAD_BYTES:]
    writer.append(exchange(1, mine * 3 + b"x" * 1000))
    writer.close()
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    assert all_read(tmp_path) == [0]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.data())
def test_one_wrong_byte_anywhere_in_a_segment_costs_one_frame_at_most(sizes: list[int], data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        writer = SpoolWriter(Path(folder), SpoolConfig(fsync="never"))
        frames = [exchange(n, b"y" * size) for n, size in enumerate(sizes)]
        for frame in frames:
            writer.append(frame)
        writer.close()
        path = Path(folder) / writer.name / segment_name(1)
        content = bytearray(path.read_bytes())
        hit = data.draw(st.integers(0, len(content) - 1))
        content[hit] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        ends = [end_of(*frames[:n]) for n in range(len(frames) + 1)]
        lost = [n for n, (start, end) in enumerate(pairwise(ends)) if start <= hit < end]
        assert all_read(Path(folder)) == [n for n in range(len(frames)) if n not in lost]


@pytest.mark.parametrize("content", [b"", b"RSPOOL2\n", b"RSPOOL2\n" + b"s" * 24])
def test_a_segment_whose_writer_died_within_its_head_is_over(tmp_path: Path, content: bytes) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig())
    writer.append(exchange(0))
    writer.close()
    (tmp_path / writer.name / segment_name(2)).write_bytes(content)
    assert all_read(tmp_path) == [0]
    assert {path.suffix for path in tmp_path.glob("*/*")} in (set(), {".damaged", ""}), (
        "nothing is left but for a person"
    )


def test_a_spool_of_before_seals_is_read_to_its_end(tmp_path: Path) -> None:
    """What an earlier version wrote, killed in its last write: an empty lock, frames with a plain checksum."""
    old = tmp_path / "w0-7-1700000000000-0123abcd"
    old.mkdir()
    (old / LOCK_FILE).touch()
    (old / segment_name(1)).write_bytes(b"".join(row(exchange(n, b"body") for n in range(3))))
    (old / segment_name(2)).write_bytes(b"".join(row(exchange(n) for n in (3, 4)))[:-1])
    assert all_read(tmp_path) == [0, 1, 2, 3]
    assert not old.exists()


@pytest.mark.parametrize("seal", [UNSEALED, None])
def test_frames_set_aside_go_on_as_their_file_began(tmp_path: Path, seal: Seal | None) -> None:
    path = tmp_path / "rejected.frames"
    if seal is not None:
        path.write_bytes(b"".join(row([exchange(0), exchange(1)], seal)))
    for n in (2, 3):
        add_frame(path, exchange(n))
    found = [frame.meta["n"] for frame, _ in iter_frames(path.read_bytes())]
    assert found == ([2, 3] if seal is None else [0, 1, 2, 3])
    assert path.stat().st_mode & 0o077 == 0 or seal is not None
