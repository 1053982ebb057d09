"""The first look at an install that nothing has come to yet, and what its headline says of models and store."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, expect

from policies.snapshot import ModelView
from proxy.config import Config, parse_config
from proxy.status import ChampionStatus, ErrorStatus, TroubleStatus
from proxy.store.store import Store
from proxy.store.tables.schema import records
from proxy.store.tables.values import IngestBatch
from proxy.web.console.welcome import base_url, example
from tests.harness.axe import barriers
from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.exchanges import exchange
from tests.harness.serve import request


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("empty"), hours=0)) as admin:
        yield admin


def test_an_install_whose_records_were_all_deleted_is_no_new_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def forget(store: Store) -> None:
        async with store._db.write() as connection:
            await connection.execute(sa.delete(records))

    with Admin(ConsoleStage(tmp_path_factory.mktemp("deleted"), hours=2)) as admin:
        admin.do(forget)
        assert not request(admin.url, "/api/records").json()["records"]
        assert b"Nothing has come yet" not in request(admin.url, "/").body


def settings(champion: dict[str, Any], **tables: Any) -> Config:
    return parse_config({"champion": champion, **tables})


@pytest.mark.parametrize(
    ("champion", "path", "client", "holds"),
    [
        ({"url": "http://127.0.0.1:8000"}, "/v1/chat/completions", "/v1", '"model": "YOUR-MODEL"'),
        ({"url": "http://127.0.0.1:8000", "model": "qwen"}, "/v1/chat/completions", "/v1", '"model": "qwen"'),
        ({"url": "http://gpu:8000/v1/"}, "/chat/completions", "", "YOUR-MODEL"),
        ({"url": "https://api.openai.com"}, "/v1/chat/completions", "/v1", '"authorization: Bearer $API_KEY"'),
        ({"url": "https://api.groq.com/openai"}, "/v1/chat/completions", "/v1", "Bearer"),
        ({"url": "https://api.anthropic.com"}, "/v1/messages", "", '"x-api-key: $API_KEY"'),
        ({"url": "https://api.anthropic.com/v1"}, "/messages", "", "anthropic-version"),
        ({"url": "https://api.cohere.com"}, "/v2/chat", "", "messages"),
        (
            {"url": "https://generativelanguage.googleapis.com"},
            "/v1beta/models/YOUR-MODEL:generateContent",
            "",
            "x-goog-api-key",
        ),
        (
            {"url": "https://generativelanguage.googleapis.com/v1beta/openai"},
            "/chat/completions",
            "",
            "authorization",
        ),
        ({"url": "https://a.openai.azure.com/openai/v1"}, "/chat/completions", "", "api-key: $API_KEY"),
        ({"url": "https://a.openai.azure.com"}, "/openai/v1/chat/completions", "/openai/v1", "api-key"),
    ],
)
def test_the_request_to_copy_is_in_the_words_of_the_champions_api(
    champion: dict[str, Any], path: str, client: str, holds: str
) -> None:
    shown = example(settings(champion), "http://here:8080")
    assert shown.curl.startswith(f"curl -sS http://here:8080{path} ")
    assert shown.client_url == f"http://here:8080{client}"
    assert holds in shown.curl


def test_a_key_that_ratchet_sends_itself_is_not_asked_for() -> None:
    shown = example(settings({"url": "https://api.openai.com", "api_key": "sk-secret"}), "http://here:8080")
    assert not shown.needs_key
    assert "KEY" not in shown.curl
    assert "sk-secret" not in shown.curl


@pytest.mark.parametrize(
    ("server", "listening", "host", "url", "near"),
    [
        ({}, None, "localhost:8081", "http://127.0.0.1:8080", True),
        ({"port": 0}, "http://127.0.0.1:4711", "localhost:8081", "http://127.0.0.1:4711", True),
        ({"host": "0.0.0.0"}, None, "gpu7.example:8081", "http://gpu7.example:8080", False),
        ({"host": "::"}, None, "[fd00::1]:8081", "http://[fd00::1]:8080", False),
        ({"host": "10.0.0.7"}, None, "localhost:8081", "http://10.0.0.7:8080", False),
        ({"public_url": "https://llm.example.com/"}, None, "localhost:8081", "https://llm.example.com", False),
    ],
)
def test_the_base_url_is_the_one_that_clients_of_the_reader_can_use(
    server: dict[str, Any], listening: str | None, host: str, url: str, near: bool
) -> None:
    tables = {"admin": {"token": "a" * 16}, "feedback": {"token": "b" * 16}}
    config = settings({"url": "http://127.0.0.1:8000"}, server=server, **tables)
    assert base_url(config, listening, host) == (url, near)


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"champion": ChampionStatus(id=1, name="base")}, ["base: not known yet whether it answers"]),
        ({"champion": ChampionStatus(id=1, name="base", healthy=True, since=1e9)}, ["base is answering", "2001-09-09"]),
        (
            {"champion": ChampionStatus(id=1, name="base", healthy=True, failed_share=0.25, requests=8)},
            ["of 8 requests failed in the last minute"],
        ),
        (
            {
                "champion": ChampionStatus(
                    id=1, name="base", healthy=False, last_error=ErrorStatus(text="connection refused at x", at=1e9)
                ),
                "troubles": {"champion": TroubleStatus(sentence="all requests failed; start it", since=1e9)},
            },
            ["base is not healthy", "all requests failed; start it", "Last error: connection refused at x"],
        ),
        ({"challenger": ModelView(id=2, name="new", waiting_for="loading weights")}, ["new: loading weights"]),
        ({"challenger": ModelView(id=2, name="new", ready=True, healthy=True)}, ["new is answering"]),
        (
            {"challenger": ModelView(id=2, name="new", ready=True, healthy=False, unhealthy_since=1e9)},
            ["new is not healthy", "since", "2001-09-09"],
        ),
        ({"challenger": ModelView(id=2, name="new", failed="out of memory")}, ["new failed: out of memory"]),
        ({"troubles": {"store": TroubleStatus(sentence="database is locked", since=1e9)}}, ["database is locked"]),
        (
            {"troubles": {"store": TroubleStatus(sentence="not open yet", since=1e9, starting=True)}},
            ["store …&nbsp;starting: not open yet"],
        ),
        (
            {"troubles": {about: TroubleStatus(sentence="x", since=1e9) for about in ("keys", "spool")}},
            ["2 troubles", "keys, spool"],
        ),
    ],
)
def test_the_headline_says_how_the_models_and_the_store_are(
    empty: Admin, changes: dict[str, Any], sentences: list[str]
) -> None:
    empty.stage.changed = changes
    try:
        shown = request(empty.url, "/").body.decode()
    finally:
        empty.stage.changed = {}
    said = re.sub(r"<[^>]*>", "", shown.partition('class="plain vitals"')[2].partition('id="lead"')[0])
    for sentence in sentences:
        assert sentence in said


@pytest.mark.parametrize("starting", [True, False])
def test_a_store_that_is_being_opened_is_nothing_to_attend_to(empty: Admin, starting: bool) -> None:
    trouble = TroubleStatus(sentence="the store is not open yet", since=1e9, starting=starting)
    empty.stage.changed = {"troubles": {"store": trouble}}
    try:
        shown = request(empty.url, "/").body.decode()
    finally:
        empty.stage.changed = {}
    assert ("Trouble (store)" in shown) is ("Needs attention" in shown) is not starting
    assert ("cannot be reached" in shown) is not starting


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_an_empty_install_says_what_to_do(empty: Admin, browser: Browser, scheme: str, width: int) -> None:
    with watched_page(browser, color_scheme=scheme, width=width) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(empty.url)
        first = page.locator("section.first")
        expect(first).to_contain_text("Waiting for the first request")
        expect(first.locator("#first-url")).to_have_text("http://127.0.0.1:8080/v1")
        first.get_by_role("button", name="Copy the command").click()
        expect(page.locator("#announce")).to_have_text("Copied.")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == first.locator("#first-curl").text_content()
        assert copied.startswith("curl -sS http://127.0.0.1:8080/v1/chat/completions")
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_the_first_request_shows_by_itself(empty: Admin, browser: Browser) -> None:
    with watched_page(browser) as page:
        page.goto(empty.url)
        expect(page.locator("section.first")).to_contain_text("Waiting for the first request")

        async def arrive(store: Store) -> None:
            at_us = int(empty.stage.clock.now() * 1e6)
            record = exchange(at_us, empty.stage.rng, model_id=1, config_id=0)
            await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(record,)))

        empty.do(arrive)
        expect(page.locator("section.first")).to_contain_text("The first request has come")
        assert barriers(page) == []
        page.locator("section.first a").click()
        expect(page.get_by_role("heading", name="Feedback and scores")).to_be_visible()
