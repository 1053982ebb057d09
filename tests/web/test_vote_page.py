"""The page behind a link in a mail: over a real socket into a real spool, and in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from playwright.sync_api import Browser, expect

from policies.ballots import BallotTrust
from proxy.config import parse_config
from tests.harness.axe import barriers
from tests.harness.chromium import VIEWS, open_browser, open_window, watched_page
from tests.harness.webserver import serving_in_thread
from tests.web.test_feedback import Side

_ANONYMOUS = int(BallotTrust.THUMB)


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path)


async def get(client: aiohttp.ClientSession, **query: str) -> tuple[int, str]:
    async with client.get("/-/feedback", params=query) as answer:
        return answer.status, await answer.text()


async def press(client: aiohttp.ClientSession, **fields: str) -> tuple[int, str]:
    async with client.post("/-/feedback/page", data=fields) as answer:
        return answer.status, await answer.text()


async def test_a_link_that_is_opened_never_votes_and_the_button_does(side: Side) -> None:
    minted = side.ids.mint(side.clock.now())
    async with side.running() as client:
        for method in ("GET", "HEAD"):
            query = {"record_id": minted.text, "feedback": "1"}
            async with client.request(method, "/-/feedback", params=query) as answer:
                assert answer.status == 200
        assert side.votes() == []
        status, page = await press(client, record_id=minted.text, feedback="1", source="ada", comment="So so.\0")
        assert status == 200
        assert "Thank you" in page
    [vote] = side.votes()
    assert (vote["id"], vote["feedback"], vote["source"], vote["comment"]) == (minted.hex, 1, "ada", "So so.\0")
    assert vote["tr"] == _ANONYMOUS, "a link is no token"
    assert side.count("feedback_votes_total") == 1


async def test_the_vote_is_taken_back_with_the_next_button(side: Side) -> None:
    record_id = side.record_id()
    async with side.running() as client:
        await press(client, record_id=record_id, feedback="-1")
        status, page = await press(client, record_id=record_id, feedback="retract")
    assert (status, "taken back" in page) == (200, True)
    assert [vote["feedback"] for vote in side.votes()] == [-1, None]


async def test_the_page_may_not_be_framed_kept_or_scripted_and_shows_nothing_of_the_answer(side: Side) -> None:
    async with side.running() as client:
        promised = "not your name"
        assert promised in (await get(client, record_id=side.record_id(), feedback="1"))[1]
        assert promised not in (await get(client, record_id=side.record_id(), feedback="1", source="ada"))[1]
        async with client.get("/-/feedback", params={"record_id": side.record_id(), "feedback": "-1"}) as answer:
            policy = answer.headers["content-security-policy"]
            assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= {*policy.split("; ")}
            assert "script" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "<script" not in await answer.text()


@pytest.mark.parametrize("field", ["record_id", "source", "comment", "feedback"])
async def test_what_a_link_says_is_never_markup(side: Side, field: str) -> None:
    attack = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    said = {"record_id": side.record_id(), "feedback": "1", "source": "ada"} | {field: attack}
    async with side.running() as client:
        for _, page in (await get(client, **said), await press(client, **said)):
            assert "<script" not in page
            assert "<img" not in page


async def test_a_link_that_is_no_good_says_so_in_words(side: Side) -> None:
    good, old = side.record_id(), side.record_id(age_days=91)
    forged = good[:-1] + ("0" if good[-1] != "0" else "1")
    broken = {
        "This link is not complete": (400, {"feedback": "1"}),
        "This link is not complete ": (400, {"record_id": good, "feedback": "2"}),
        "This link is not complete  ": (400, {"record_id": good}),
        "This link belongs to no answer": (403, {"record_id": forged, "feedback": "1"}),
        "This link belongs to no answer ": (403, {"record_id": "chatcmpl-12345", "feedback": "1"}),
        "This answer is too old for a vote": (410, {"record_id": old, "feedback": "1"}),
    }  # fmt: skip
    async with side.running() as client:
        for title, (status, said) in broken.items():
            for answer in (await get(client, **said), await press(client, **said)):
                assert answer[0] == status, (title, said)
                assert f"<h1>{title.strip()}</h1>" in answer[1], (title, said)
        assert (await get(client, record_id=good, feedback="retract"))[0] == 400, "a link never takes back"
        assert (await press(client, record_id=good, feedback="1", comment="x" * 10_001))[0] == 413
        async with client.post("/-/feedback/page", data=b"\xff\xfe") as answer:
            assert answer.status == 400
    assert side.votes() == []


async def test_where_thumbs_of_strangers_do_not_count_the_page_says_so(side: Side) -> None:
    side.config = parse_config({"champion": {"url": "http://m.example.com"}, "feedback": {"anonymous": []}})
    async with side.running() as client:
        status, page = await get(client, record_id=side.record_id(), feedback="1")
    assert (status, "not taken here" in page) == (403, True)


async def test_buttons_are_held_back_as_votes_are(side: Side) -> None:
    limits = {"rate_per_second": 2, "max_batch": 1}
    side.config = parse_config({"champion": {"url": "http://m.example.com"}, "feedback": limits})
    record_id = side.record_id()
    async with side.running() as client:
        statuses = [(await press(client, record_id=record_id, feedback="1"))[0] for _ in range(4)]
    assert statuses == [200, 200, 429, 429]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize(("color_scheme", "width"), VIEWS)
def test_a_person_votes_with_the_keyboard_and_thinks_better_of_it(
    browser: Browser, tmp_path: Path, color_scheme: Any, width: int
) -> None:
    side = Side(tmp_path)
    app, close = side.app()
    record_id = side.record_id()
    with (
        serving_in_thread(app, close) as url,
        watched_page(browser, color_scheme=color_scheme, width=width) as page,
    ):
        page.goto(f"{url}/-/feedback?{urlencode({'record_id': record_id, 'feedback': '-1', 'source': 'ada'})}")
        expect(page.get_by_role("heading", level=1)).to_have_text("Was this answer bad?")
        assert barriers(page) == []
        page.keyboard.press("Tab")
        page.keyboard.type("It is Bern.")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Thank you")
        assert barriers(page) == []
        page.get_by_role("button", name="Take it back").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Your vote is taken back")
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    said = [(vote["feedback"], vote.get("comment"), vote["source"]) for vote in side.votes()]
    assert said == [(-1, "It is Bern.", "ada"), (None, None, "ada")]


def test_the_link_of_a_forged_id_is_readable_without_a_mouse(browser: Browser, tmp_path: Path) -> None:
    side = Side(tmp_path)
    app, close = side.app()
    with serving_in_thread(app, close) as url, open_window(browser, width=360) as window:
        page = window.page  # which complains of the status
        answer = page.goto(f"{url}/-/feedback?record_id={quote('forged')}&feedback=1")
        assert answer is not None
        assert answer.status == 403
        assert barriers(page) == []
