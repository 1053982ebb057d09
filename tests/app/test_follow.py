"""A worker follows the route table's file and keeps the last good one, whatever happens to the file."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.app.file_watch import Routes, follow_credentials, follow_files, follow_keys
from proxy.clock import AdjustedClock, ManualClock
from proxy.config.serving import ChampionConfig
from proxy.credentials import Credential, CredentialFile, write_credentials
from proxy.ids import KeyRing
from proxy.log_throttle import ThrottledLog
from proxy.routes import RouteTable, Target, read_routes, write_routes
from proxy.tasks import cancel_and_wait, spawn

FIRST = RouteTable(version=3, champion=Target(model_id=1, name="a", url="http://a"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_routes(tmp_path / "routes.json", FIRST)
    return tmp_path / "routes.json"


def test_a_new_table_is_taken(path: Path) -> None:
    routes = Routes(path, RouteTable(version=0, champion=FIRST.champion))
    assert routes.table == FIRST
    assert not routes.refresh()
    write_routes(path, replace(FIRST, version=4, share=0.5))
    assert routes.refresh()
    assert routes.table.share == 0.5


def test_an_older_version_is_ignored(path: Path) -> None:
    routes = Routes(path, FIRST)
    write_routes(path, replace(FIRST, version=2, share=0.9))
    assert not routes.refresh()
    assert routes.table == FIRST


GOOD = '{"version": 9, "champion": {"model_id": 1, "name": "a", "url": "http://a"}'


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": 9}', '{"version": 9, "champion": {"nonsense": 1}}', GOOD, "\0" * 100,
     GOOD.replace("9", '"9"') + "}", GOOD.replace('"http://a"', "5") + "}", GOOD.replace("{", "[", 1) + "}",
     GOOD + ', "share": "0.5"}', GOOD + ', "share": 1.5}', GOOD + ', "salt": "xyz"}', GOOD + ', "salt": null}',
     GOOD + f', "salt": "{"ab" * 65}"}}', GOOD + ', "challenger": 3}', GOOD + ', "challenger": {}}'],
)  # fmt: skip
def test_a_damaged_file_leaves_the_last_good_table(path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    routes = Routes(path, FIRST)
    path.write_text(content)
    assert not routes.refresh()
    assert not routes.refresh()
    assert routes.table == FIRST
    assert len(caplog.records) == 1, "told once, not four times a second"


def test_a_table_by_another_hand_is_read(path: Path) -> None:
    path.write_text(GOOD + ', "share": 0, "salt": "00ff", "challenger": null}')
    assert read_routes(path).champion.url == "http://a"


def test_without_a_file_the_fallback_serves(tmp_path: Path) -> None:
    routes = Routes(tmp_path / "absent.json", FIRST)
    assert not routes.refresh()
    assert routes.table == FIRST


async def test_changes_are_in_force_within_a_second(path: Path, tmp_path: Path) -> None:
    routes = Routes(path, FIRST)
    ring = KeyRing.load_or_create(tmp_path / "keys.json")
    clock = AdjustedClock()
    credentials = CredentialFile(tmp_path / "credentials.json", ChampionConfig())
    following = spawn(follow_files(routes, ring, credentials, clock, tmp_path / "clock.json"), name="follow")
    (tmp_path / "clock.json").write_text('{"ahead_s": 30}')
    write_routes(path, replace(FIRST, version=4))
    write_credentials(tmp_path / "credentials.json", {"new": Credential.of("http://b", "k")})
    KeyRing.load_or_create(tmp_path / "keys.json").rotate(notice_s=0)
    async with asyncio.timeout(120):
        while routes.table.version < 4 or ring.signing_id != ring.key_ids[-1] or clock.ahead_s != 30:
            await asyncio.sleep(0.01)
    assert credentials.header("new", "http://b/v1") == ("authorization", "Bearer k")
    await cancel_and_wait([following])


@pytest.mark.parametrize(("content", "told"), [(None, "is gone; the keys in memory stay"), ("", "not a key ring")])
async def test_keys_that_cannot_be_read_are_said_once_and_again_when_they_are_well(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, told: str
) -> None:
    keys, clock = tmp_path / "keys.json", ManualClock()
    ring = KeyRing.load_or_create(keys)
    whole, signing = keys.read_bytes(), ring.signing_id
    said = ThrottledLog(logging.getLogger("test"), clock)
    follow_keys(ring, said)
    for _ in range(2):
        keys.unlink()
        if content is not None:
            keys.write_text(content)
        caplog.clear()
        for _ in range(50):
            follow_keys(ring, said)
        [line] = caplog.messages
        assert told in line
        assert "backup" in line
        assert ring.signing_id == signing
        keys.unlink(missing_ok=True)
        keys.write_bytes(whole)
        follow_keys(ring, said)
        clock.advance(10)


def test_a_new_key_has_the_table_made_ready_anew(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A challenger that had to wait for its key gets its users then."""
    routes, keys = Routes(path, FIRST), tmp_path / "credentials.json"
    credentials, said = CredentialFile(keys, ChampionConfig()), ThrottledLog(logging.getLogger("test"), ManualClock())
    before = routes.table
    follow_credentials(credentials, routes, said)
    assert routes.table is before
    write_credentials(keys, {"new": Credential.of("http://b", "secret")})
    follow_credentials(credentials, routes, said)
    assert routes.table == before
    assert routes.table is not before
    keys.write_text('{"new": {"value": "secret"}}')
    follow_credentials(credentials, routes, said)
    assert credentials.header("new", "http://b") == ("authorization", "Bearer secret")
    assert "not a file of API keys (KeyError)" in caplog.text
    assert "secret" not in caplog.text
