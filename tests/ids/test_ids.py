"""Record ids: they sort by time, verify under every key of the ring, and nothing else passes."""

from __future__ import annotations

import json
import stat
import threading
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import ManualClock
from proxy.ids import ForgedIdError, KeyRing, RecordIds, Uuid7, merge_rings, minted_at

NOW = 1_700_000_000.123


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.load_or_create(tmp_path / "keys.json")


def test_a_minted_id_verifies_to_its_uuid(ring: KeyRing) -> None:
    ids = RecordIds(ring)
    minted = ids.mint(NOW)
    uuid = UUID(minted.hex)
    assert (uuid.version, len(minted.text)) == (7, 36)
    assert ids.verify(minted.text) == minted.hex
    assert minted_at(minted.hex) == pytest.approx(NOW, abs=0.001)


def test_a_known_uuid_signs_to_the_id_its_client_got(ring: KeyRing) -> None:
    ids = RecordIds(ring)
    minted = ids.mint(1_700_000_000.0)
    assert ids.sign(minted.hex) == minted.text


def test_ids_grow_even_while_the_clock_goes_back_a_little(ring: KeyRing) -> None:
    ids = RecordIds(ring)
    times = [NOW, NOW, NOW + 1, NOW + 0.01, NOW + 0.01, NOW + 0.9] * 200
    minted = [ids.mint(now) for now in times]
    assert [m.hex for m in minted] == sorted({m.hex for m in minted})
    assert [m.text for m in minted] == sorted(m.text for m in minted)


steps = st.lists(st.sampled_from([0.0, 0.001, 0.4, -0.3, -0.9, -1.5, -60.0, -86_400.0, 86_400.0, 3600.0]), max_size=60)


@given(steps)
def test_an_id_is_never_dated_more_than_a_second_ahead_and_never_made_twice(steps: list[float]) -> None:
    """Whatever the clock does; and where it does not go back by more than a second, ids grow."""
    uuids, now, made = Uuid7(), NOW, []
    for step in (*steps, 0.0):
        now += step
        made.append((now, int.from_bytes(uuids.next_bytes(now))))
    assert all(-0.001 <= (number >> 80) / 1000 - at <= 1.0 for at, number in made)
    assert len({number for _, number in made}) == len(made)
    for (_, earlier), (at, later) in pairwise(made):
        assert later > earlier or at < (earlier >> 80) / 1000 - 1.0


def test_a_clock_that_was_a_day_ahead_for_a_moment_leaves_nothing_dated_ahead(ring: KeyRing) -> None:
    clock = ManualClock(NOW)
    ids = RecordIds(ring)
    ids.mint(clock.now())
    clock.jump(86_400)
    ahead = {ids.mint(clock.now()).hex for _ in range(100)}
    clock.advance(1)
    clock.jump(-86_400)
    after = [ids.mint(clock.now()).hex for _ in range(100)]
    assert all(minted_at(each) == pytest.approx(clock.now(), abs=0.002) for each in after)
    assert after == sorted(set(after) - ahead), "they are different ones, and grow again"


def test_a_full_millisecond_moves_on_to_the_next() -> None:
    uuids = Uuid7()
    first = uuids.next_bytes(NOW)
    uuids._high, uuids._low = (1 << 12) - 1, (1 << 62) - 1
    following = uuids.next_bytes(NOW)
    assert following > first
    assert int.from_bytes(following[:6]) == int.from_bytes(first[:6]) + 1


def test_random_bits_run_over_from_one_half_into_the_other() -> None:
    uuids = Uuid7()
    uuids.next_bytes(NOW)
    uuids._high, uuids._low = 5, (1 << 62) - 1
    first = uuids.next_bytes(NOW)
    assert int.from_bytes(first[6:8]) == 0x7000 | 6
    assert first[8] >> 6 == 0b10
    assert uuids.next_bytes(NOW) > first


@given(st.integers(0, 35), st.sampled_from("0129ABYZ_abyz~-+/= .é"))
def test_any_changed_character_is_refused(position: int, character: str) -> None:
    minted = _ids().mint(NOW)
    forged = minted.text[:position] + character + minted.text[position + 1 :]
    if forged == minted.text:
        assert _ids().verify(forged) == minted.hex
    else:
        with pytest.raises(ForgedIdError):
            _ids().verify(forged)


@given(st.text())
def test_arbitrary_text_is_refused_not_a_crash(text: str) -> None:
    with pytest.raises(ForgedIdError):
        _ids().verify(text)


def test_another_installs_id_is_refused(ring: KeyRing, tmp_path: Path) -> None:
    other = KeyRing.load_or_create(tmp_path / "other.json")
    with pytest.raises(ForgedIdError):
        RecordIds(ring).verify(RecordIds(other).mint(NOW).text)


def test_a_rotated_key_signs_only_once_everybody_had_time_to_learn_it(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    ring = KeyRing.load_or_create(tmp_path / "keys.json", clock)
    running = KeyRing.load_or_create(tmp_path / "keys.json", clock)  # another process, holding the old ring
    ids, others = RecordIds(ring), RecordIds(running)
    old = ids.mint(NOW)
    key_id = ring.rotate(notice_s=60)
    early = ids.mint(NOW)
    assert ring.signing_id == ring.key_ids[0] != key_id == ring.key_ids[-1]
    assert (ring.signs_from(ring.key_ids[0]), ring.signs_from(key_id)) == (0, NOW + 60)
    assert others.verify(early.text) == early.hex, "also where the rotation is not known yet"
    assert running.reload()
    assert not running.reload()
    clock.advance(60)
    assert not ring.reload(), "the file is the same"
    late = ids.mint(NOW)
    assert ring.signing_id == key_id
    assert running.signing_id != key_id, "it has not looked at its clock yet"
    for minted in (old, early, late):
        assert ids.verify(minted.text) == others.verify(minted.text) == minted.hex


def test_a_key_without_notice_signs_at_once_at_any_fraction_of_a_second(tmp_path: Path) -> None:
    ring = KeyRing.load_or_create(tmp_path / "keys.json", ManualClock(NOW + 0.0006))
    assert ring.rotate(notice_s=0) == ring.signing_id


def test_a_key_that_nobody_was_told_of_is_a_stranger(tmp_path: Path) -> None:
    ring, running = (KeyRing.load_or_create(tmp_path / "keys.json") for _ in range(2))
    ring.rotate(notice_s=0)
    with pytest.raises(ForgedIdError):
        RecordIds(running).verify(RecordIds(ring).mint(NOW).text)
    running.reload()
    assert running.signing_id == ring.signing_id == ring.key_ids[-1]


def test_a_ring_written_before_keys_had_a_beginning_still_works(tmp_path: Path) -> None:
    document = {"pepper": "ab" * 32, "signing": [{"id": 7, "key": "cd" * 32}, {"id": 3, "key": "ef" * 32}]}
    (tmp_path / "keys.json").write_text(json.dumps(document))
    assert KeyRing(tmp_path / "keys.json").signing_id == 3


def test_the_ring_is_private_and_the_same_for_all_who_race_to_make_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    hashes: list[int] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        hashes.append(KeyRing.load_or_create(path).user_hash(b"user-1"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hashes) == 8
    assert len(set(hashes)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_user_hashes_are_signed_64_bit_and_differ_between_installs(ring: KeyRing, tmp_path: Path) -> None:
    values = {ring.user_hash(str(n).encode()) for n in range(1000)}
    assert len(values) == 1000
    assert min(values) < 0 < max(values)
    assert all(-(2**63) <= value < 2**63 for value in values)
    other = KeyRing.load_or_create(tmp_path / "other.json")
    assert other.user_hash(b"1") != ring.user_hash(b"1")


@pytest.mark.parametrize("text", ["", "{}", '{"pepper": "00", "signing": []}', '{"pepper": "zz", "signing": [{}]}'])
def test_a_damaged_ring_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="Restore it from a backup"):
        KeyRing.load_or_create(path)


def test_secrets_do_not_show_in_a_repr(ring: KeyRing) -> None:
    assert repr(ring).endswith("keys.json', 1 keys)")


def test_a_full_ring_says_so(ring: KeyRing) -> None:
    for _ in range(255):
        ring.rotate()
    assert len(set(ring.key_ids)) == 256
    with pytest.raises(ValueError, match="remove the oldest"):
        ring.rotate()


_shared: list[RecordIds] = []


def _ids() -> RecordIds:
    if not _shared:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            _shared.append(RecordIds(KeyRing.load_or_create(Path(folder) / "keys.json")))
    return _shared[0]


@pytest.mark.parametrize("same_id", [False, True])
def test_a_host_that_joins_takes_the_shared_ring_and_its_own_ids_stay_valid(tmp_path: Path, same_id: bool) -> None:
    """One byte each: once in 256 two hosts begin with keys of the same id."""
    mine = KeyRing.load_or_create(tmp_path / "mine.json")
    minted = RecordIds(mine).mint(1_700_000_000.0)
    shared = KeyRing.load_or_create(tmp_path / "shared.json")
    if same_id:
        document = shared.document()
        document["signing"][0]["id"] = mine.signing_id
        (tmp_path / "shared.json").write_text(json.dumps(document))
        shared = KeyRing(tmp_path / "shared.json")
    theirs = RecordIds(shared).mint(1_700_000_000.0)
    document = merge_rings(mine.document(), shared.document())
    assert merge_rings(mine.document(), document) == document, "sharing again changes nothing"
    for ring in (mine, shared):
        ring.adopt(document, instead_of=ring.document())
        assert RecordIds(ring).verify(minted.text) == minted.hex
        assert RecordIds(ring).verify(theirs.text) == theirs.hex
        assert ring.key_ids == tuple(dict.fromkeys((*mine.key_ids[:1], *shared.key_ids[-1:])))
    assert mine.user_hash(b"ann") == shared.user_hash(b"ann")
    assert RecordIds(mine).sign(minted.hex) == RecordIds(shared).sign(minted.hex)


def test_a_rotation_on_one_host_signs_on_all(tmp_path: Path) -> None:
    one = KeyRing.load_or_create(tmp_path / "one.json")
    before = one.document()
    fresh = one.rotate(notice_s=0)
    assert merge_rings(one.document(), before) == one.document()
    assert merge_rings(before, one.document())["signing"][-1]["id"] == fresh, "a host that is behind takes nothing back"


def test_a_key_that_is_rotated_while_a_host_joins_is_not_lost(tmp_path: Path) -> None:
    """The host reads its ring, asks the database, and writes; somebody rotates in between."""
    for folder in ("mine", "shared"):
        (tmp_path / folder).mkdir()
    ring, shared = (KeyRing.load_or_create(tmp_path / folder / "keys.json") for folder in ("mine", "shared"))
    before, elsewhere = ring.document(), KeyRing(tmp_path / "mine" / "keys.json")
    rotated = elsewhere.rotate(notice_s=0)
    ring.adopt(merge_rings(before, shared.document()), instead_of=before)
    assert ring.signing_id == rotated
    assert set(shared.key_ids) <= set(ring.key_ids)
    assert ring.document()["pepper"] == shared.document()["pepper"]
