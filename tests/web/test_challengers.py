"""A challenger that a person brings: what is taken, and where its key goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policies.rows import ModelState
from proxy.config.serving import ChampionConfig
from proxy.credentials import Credential
from proxy.store.store import Store
from proxy.web.challengers import arguments, read_challenger
from tests.harness.install import Install
from tests.web.test_admin import TOKEN, Admin, get

REWRITE = {"system": {"prepend": "Be brief."}}


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path)


async def post(client: Any, body: Any) -> tuple[int, Any]:
    async with client.post("/api/challengers", json=body, headers=TOKEN) as response:
        return response.status, await response.json()


async def test_a_challenger_becomes_a_command_and_its_key_a_secret(install: Install) -> None:
    body = {"url": "http://127.0.0.1:9/a/", "api_key": "sk-secret", "name": "b", "rewrite": REWRITE, "model": None,
            "why": "it is new", "who": "ann"}  # fmt: skip
    admin = Admin(install)
    async with admin.running() as client:
        status, answer = await post(client, body)
        assert (status, answer) == (202, {"id": 1, "state": "pending", "verb": "challenge"})
        _, command = await get(client, "/api/commands/1")
    [(verb, args, who, why)] = admin.submitted
    credential = command["args"]["credential"]
    assert (verb, who, why) == ("challenge", "ann", "it is new")
    rewrite = json.loads(args["rewrite"])
    assert {**args, "rewrite": rewrite} == {
        "url": "http://127.0.0.1:9/a", "name": "b", "rewrite": REWRITE,
    }  # fmt: skip
    assert "sk-secret" not in str(command)
    store = await install.open_store()
    try:
        assert await store.credentials.get(credential) == Credential.of("http://127.0.0.1:9", "sk-secret")
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "url: name an endpoint, a model, or a rewrite; else the challenger is the champion itself"),
        ({"url": "champion"}, "url: name an endpoint, a model, or a rewrite"),
        ({"model": " "}, "url: name an endpoint, a model, or a rewrite"),
        ({"link": "x"}, "link: there is no such field; a challenger has url, model, name, api_key,"),
        ({"url": "ftp://x"}, 'url: "ftp://x" is not the URL of an HTTP server'),
        ({"url": "http://me:sk-secret@x"}, "url: has a user name or password in it"),
        ({"url": "http://x?key=1"}, 'url: "http://x?key=1" has a query'),
        ({"url": "http://x/\u00fc"}, 'url: "http://x/\u00fc" has a path with letters'),
        ({"url": "http://x", "api_key": "k", "api_key_header": "Host"}, 'api_key_header: "Host" is needed by HTTP'),
        ({"url": 3}, "url: not a text of at most 1,000 characters on one line"),
        ({"model": "a\nb"}, "model: not a text"),
        ({"model": "m", "name": "a b"}, "name: 'a b' is no name of a model"),
        ({"model": "m", "api_key": "sk-secret"}, "api_key: it is for one server; give the url of that as well"),
        ({"url": "http://x", "api_key": "sk-\u20ac"}, "api_key: it has a character that no header may have"),
        ({"url": "http://x", "api_key": "k", "api_key_header": "a b"}, 'api_key_header: "a b" is not a header name'),
        ({"url": "http://x", "api_key_header": "x-a"}, "api_key_header: there is no api_key to be sent in it"),
        ({"url": "http://x", "api_key": "k", "client_key": True}, "client_key: true or false, and not beside api_key"),
        ({"url": "http://x", "client_key": "yes"}, "client_key: true or false"),
        ({"rewrite": {"sytem": {}}}, "rewrite.sytem: there is no such member"),
    ],
)
async def test_what_is_wrong_is_said_by_its_field(install: Install, body: dict[str, Any], said: str) -> None:
    admin = Admin(install)
    async with admin.running() as client:
        status, answer = await post(client, {**body, "why": "x"})
    assert status == 400
    assert answer["error"]["message"].startswith(said)
    assert answer["error"]["field"] == said.partition(":")[0]
    assert "sk-secret" not in str(answer)
    assert admin.submitted == []


async def test_it_is_brought_at_one_place_and_where_there_is_a_loop_and_a_store(install: Install) -> None:
    async with Admin(install).running() as client:
        order = {"verb": "challenge", "why": "x", "args": {"url": "http://x", "credential": "champion"}}
        async with client.post("/api/commands", json=order, headers=TOKEN) as response:
            assert response.status == 400
            assert "POST /api/challengers" in (await response.json())["error"]["message"]
        assert (await post(client, {"model": "m"}))[0] == 400  # no reason
    async with Admin(install).running(store=False) as client:
        assert (await post(client, {"model": "m", "why": "x"}))[0] == 503
    async with Admin(install, submit=None).running() as client:
        assert (await post(client, {"model": "m", "why": "x"}))[0] == 503


@pytest.mark.parametrize(
    ("given", "credential"),
    [
        ({"url": "http://champion:1/other"}, None),
        ({"url": "http://elsewhere:1"}, "none"),
        ({"url": "http://elsewhere:1", "client_key": True}, None),
        ({"url": "http://configured:1"}, "none"),
        ({"model": "m"}, None),
    ],
)
async def test_a_stranger_gets_nobodys_key(install: Install, given: dict[str, Any], credential: str | None) -> None:
    champion = ChampionConfig(url="http://configured:1", api_key="sk-champion")
    store: Store = await install.open_store()
    try:
        await store.models.add("old", url="http://champion:1", state=ModelState.CHAMPION)
        args, _ = await arguments(read_challenger(given), store, champion)
        assert args.get("credential") == credential
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("given", "rewrite"),
    [
        ({"model": "m"}, REWRITE),
        ({"model": "m", "rewrite": {"parameters": {"n": 1}}}, {"parameters": {"n": 1}}),
        ({"url": "http://champion:1"}, None),
    ],
)
async def test_where_only_the_model_differs_the_champions_rewrite_stays(
    install: Install, given: dict[str, Any], rewrite: Any
) -> None:
    store: Store = await install.open_store()
    try:
        await store.models.add("old", url="http://champion:1", state=ModelState.CHAMPION, rewrite=REWRITE)
        args, _ = await arguments(read_challenger(given), store, ChampionConfig(url="http://champion:1"))
        assert json.loads(args.get("rewrite", "null")) == rewrite
    finally:
        await store.close()


async def test_before_there_is_a_champion_the_configured_one_counts(install: Install) -> None:
    champion = ChampionConfig(url="http://configured:1")
    store: Store = await install.open_store()
    try:
        args, key = await arguments(read_challenger({"url": "http://configured:1/v2"}), store, champion)
        assert (args, key) == ({"url": "http://configured:1/v2"}, None)
    finally:
        await store.close()
