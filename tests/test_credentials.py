"""API keys of challengers: kept apart, sent to one server, forgotten with their models."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.rows import Model, ModelState
from proxy.app.credential_keeper import keep_credentials, not_needed
from proxy.clock import ManualClock
from proxy.config.serving import ChampionConfig
from proxy.credentials import (
    Credential,
    CredentialFile,
    UnknownCredentialError,
    read_credentials,
    write_credentials,
)
from proxy.store.store import Store
from proxy.store.tables.control import CommandRow, CommandState, LoopTransaction

CHAMPION = ChampionConfig(url="https://api.example.com/v1", api_key="sk-champion", api_key_header="x-api-key")
KEY = Credential.of("https://models.example.net/a", "sk-secret")


def test_a_key_goes_to_its_server_alone(tmp_path: Path) -> None:
    write_credentials(tmp_path / "c.json", {"new": KEY})
    keys = CredentialFile(tmp_path / "c.json", CHAMPION)
    with pytest.raises(UnknownCredentialError, match="the API key new is not on this host"):
        keys.header("new", "https://models.example.net")
    assert keys.refresh()
    assert not keys.refresh()
    assert keys.header("new", "https://models.example.net/b") == ("authorization", "Bearer sk-secret")
    for url in ("http://models.example.net", "https://models.example.net:8443", "https://example.net"):
        with pytest.raises(UnknownCredentialError, match=f"is for https://models.example.net, not for {url}$"):
            keys.header("new", url)
    assert keys.header("champion", "https://api.example.com/other") == ("x-api-key", "sk-champion")
    assert keys.header("champion", "https://models.example.net") is None
    assert keys.header("none", "https://anywhere.example.org") is None
    assert "sk-" not in repr(keys) + repr(KEY)


def test_its_file_is_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write_credentials(path, {"new": KEY})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_credentials(path) == {"new": KEY}


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"origin": ["x"]}}',
                                     '{"a": {"origin": ["x", "y"], "header": 1, "value": "sk-secret"}}'])  # fmt: skip
def test_a_file_that_is_none_is_said_without_its_content(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ValueError, match="not a file of API keys") as caught:
        read_credentials(tmp_path / "c.json")
    assert "sk-secret" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write_credentials(path, {"new": KEY})
    keys = CredentialFile(path, CHAMPION)
    assert keys.refresh()
    (tmp_path / "broken").write_text("{")
    (tmp_path / "broken").rename(path)
    for _ in range(2):
        with pytest.raises(ValueError, match="not a file of API keys"):
            keys.refresh()
    assert keys.header("new", "https://models.example.net") == ("authorization", "Bearer sk-secret")
    write_credentials(path, {})
    assert keys.refresh()


def test_without_a_file_there_is_the_configured_one() -> None:
    keys = CredentialFile(None, CHAMPION)
    assert not keys.refresh()
    assert keys.header("champion", CHAMPION.url) == ("x-api-key", "sk-champion")


def model(credential: str | None, state: ModelState) -> Model:
    return Model(id=1, name="m", credential=credential, state=state)


def test_a_key_is_needed_as_long_as_a_model_is() -> None:
    models = [
        model("a", ModelState.RETIRED),
        model("b", ModelState.RETIRED),
        model("b", ModelState.READY),
        model("c", ModelState.FAILED),
        model(None, ModelState.CHAMPION),
        model("f", ModelState.REGISTERED),
    ]
    waits = CommandRow(id=1, at_us=0, verb="challenge", args={"credential": "e"}, who="ann", why="new")
    assert not_needed("abcdef", [waits], models) == {"a", "c", "d", "f"}


@pytest.mark.parametrize("state", [CommandState.REFUSED, CommandState.DONE])
async def test_a_key_stays_while_its_command_waits_and_goes_with_it(
    store: Store, tmp_path: Path, state: CommandState
) -> None:
    path, command = tmp_path / "c.json", await bring(store, KEY)
    await keep_credentials(store, path)
    assert read_credentials(path) == {command.args["credential"]: KEY}
    await settle(store, command, state)
    await keep_credentials(store, path)
    assert read_credentials(path) == {}
    assert await store.credentials.all() == {}


async def bring(store: Store, key: Credential) -> CommandRow:
    return await store.commands.submit("challenge", who="ann", why="new", args={"url": "u"}, key=key)


async def settle(store: Store, command: CommandRow, state: CommandState = CommandState.DONE) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    settled = replace(command, state=state, detail="so it is")
    await store.journal.transition(LoopTransaction(fence=lease.fence, commands=(settled,)))


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    opened = await Store.open(f"sqlite:///{tmp_path / 'r.db'}", clock=ManualClock())
    yield opened
    await opened.close()


async def test_the_store_keeps_them_and_every_host_has_a_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    await keep_credentials(store, path)
    assert not path.exists()
    commands = await bring(store, KEY), await bring(store, Credential.of("http://b", "k", "x-api-key"))
    name, other = (command.args["credential"] for command in commands)
    assert await store.credentials.get(name) == KEY
    assert await store.credentials.get("champion") is None
    await store.models.add("new", credential=name, state=ModelState.CHALLENGER)
    await store.models.add("old", credential=other, state=ModelState.RETIRED)
    for command in commands:
        await settle(store, command)
    await keep_credentials(store, path)
    assert read_credentials(path) == {name: KEY}
    assert await store.credentials.get(other) is None
    stamp = path.stat()
    await keep_credentials(store, path)
    assert path.stat().st_mtime_ns == stamp.st_mtime_ns
    path.write_text("{")
    await keep_credentials(store, path)
    assert read_credentials(path) == {name: KEY}
    await store.credentials.forget([name])
    await keep_credentials(store, path)
    assert read_credentials(path) == {}
