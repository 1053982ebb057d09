"""What health says of the store: in trouble until something was written, everywhere in the same words."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import IO, Any

import pytest

from proxy.app.store_health import StoreHealth
from proxy.app.store_health_file import StoreHealthFile, read_store_health
from proxy.app.troubles import Troubles
from proxy.clock import ManualClock
from proxy.errors import TemporaryError
from proxy.store.engine.refusals import ErrorSubject, RefusalKind, StoreAwayError, explain


class Told:
    """A health, and whoever it tells."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.troubles = Troubles(self.clock)
        self.path = directory / "store.json"
        self.up: bool | None = None
        self.health = StoreHealth(self.troubles, StoreHealthFile(self.path), self._set_up, self.clock)

    def _set_up(self, up: bool) -> None:
        self.up = up

    @property
    def sentence(self) -> str:
        """What all of them say; fails where they do not agree."""
        seen = read_store_health(self.path, self.clock.now())
        said = self.troubles.of("store")
        assert (seen["store"], seen["store_trouble"]) == (("unreachable", said) if said else ("ok", None))
        assert self.up == (not said)
        return said


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def full() -> StoreAwayError:
    return StoreAwayError("the disk is full; free some space", RefusalKind.PERSON)


def damaged() -> Any:
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return explain(error, ErrorSubject())


def test_it_stays_in_trouble_until_something_was_written(told: Told) -> None:
    told.health.report_write()
    assert told.sentence == ""
    told.health.report_error(full())
    for _ in range(10):
        told.clock.advance(60)
        told.health.publish()
        assert told.sentence == (
            "the store cannot be used: the disk is full; free some space; serving goes on, records wait in the spool"
        )
    told.health.report_write()
    assert told.sentence == ""


def test_a_batch_that_cannot_be_stored_is_not_made_up_for_by_a_few_bytes(told: Told) -> None:
    told.health.report("ingest", full())
    told.health.report_write()
    assert "disk is full" in told.sentence
    told.health.resolve("ingest")
    assert told.sentence == ""


def test_damage_is_not_forgotten_because_a_good_page_was_written(told: Told) -> None:
    told.health.report_error(damaged())
    told.health.report_write()
    assert "damaged" in told.sentence
    told.clock.advance(299)
    told.health.report_write()
    assert "damaged" in told.sentence
    told.clock.advance(2)
    told.health.report_write()
    assert told.sentence == ""


def test_a_backup_in_the_place_of_a_damaged_file_is_well_at_once(told: Told) -> None:
    told.health.report("start", damaged())
    assert "damaged" in told.sentence
    told.health.opened()
    assert told.sentence == ""


def test_two_who_were_at_the_same_thing_are_no_trouble(told: Told) -> None:
    told.health.report_write()
    told.health.report_error(StoreAwayError("another replica was quicker; again", RefusalKind.RACE))
    assert told.sentence == ""


def test_it_is_proven_now_and_then_and_at_once_when_in_doubt(told: Told) -> None:
    assert told.health.needs_proof
    told.health.report_write()
    assert not told.health.needs_proof
    told.clock.advance(4)
    assert told.health.needs_proof
    told.health.report_write()
    told.health.report_error(TemporaryError("store: no answer within 10 s"))
    assert told.health.needs_proof
    assert "cannot be used: no answer within 10 s" in told.sentence


def test_a_new_sentence_does_not_begin_the_trouble_anew(told: Told) -> None:
    told.health.report_error(full())
    since = read_store_health(told.path, told.clock.now())["store_since"]
    told.clock.advance(100)
    told.health.report_write()
    told.health.report_error(full())
    told.clock.advance(5)
    told.health.report("answer", "the database does not exist; create it")
    seen = read_store_health(told.path, told.clock.now())
    assert seen["store_since"] == since + 100
    assert "does not exist" in told.sentence


def test_a_disk_that_is_full_is_said_on_that_disk(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told.health.report_write()

    def no_room(path: Path, content: bytes) -> IO[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("proxy.app.store_health_file.write_private", no_room)
    told.health.report_error(full())
    assert "disk is full" in told.sentence
    told.health.report_write()
    assert told.sentence == ""


def test_what_the_store_has_no_part_in_does_not_blame_it(told: Told) -> None:
    told.health.report_write()
    told.health.report("unread", "not all of the spool can be read (Permission denied)")
    assert told.sentence.startswith("not all of the spool can be read")
    told.health.report_error(full())
    assert told.sentence.startswith("the store cannot be used: ")
    assert "disk is full" in told.sentence
    told.health.report_write()
    assert told.sentence.startswith("not all of the spool can be read")
    told.health.resolve("unread")
    assert told.sentence == ""
