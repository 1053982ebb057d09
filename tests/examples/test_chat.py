"""examples/chat in a real browser: a person chats through the proxy, votes, and the votes arrive in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.harness.axe import barriers
from tests.harness.chromium import watched_page
from tests.harness.programs import EXAMPLES, free_port, program
from tests.harness.serve import RatchetProcess, await_true, request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def other_port() -> int:
    """Where a page is served from whose scripts may send votes (`feedback.cors_origins`)."""
    return free_port()


@pytest.fixture(scope="module")
def ratchet(eliza: str, other_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RatchetProcess]:
    settings = {"feedback": {"cors_origins": [f"http://127.0.0.1:{other_port}"]}}
    with RatchetProcess(tmp_path_factory.mktemp("ratchet"), champion=eliza, settings=settings) as process:
        process.await_admin()
        yield process


@contextmanager
def chat_server(ratchet: RatchetProcess, port: int) -> Iterator[str]:
    """The example's own server."""
    url = f"http://127.0.0.1:{port}"
    with program(EXAMPLES / "chat/server.py", str(port), environ={"RATCHET_URL": ratchet.base_url}):
        await_true(lambda: _answers(url), "the chat server")
        yield url


@pytest.fixture(scope="module")
def chat_url(ratchet: RatchetProcess) -> Iterator[str]:
    """The example's own server."""
    with chat_server(ratchet, free_port()) as url:
        yield url


def _answers(url: str) -> bool:
    try:
        return request(url, "/").status == 200
    except (OSError, HTTPException):
        return False


def votes_of(ratchet: RatchetProcess, record: str) -> list[dict[str, Any]]:
    """The votes that count on one record."""
    answer = request(ratchet.admin_url, f"/api/records/{record}")
    votes: list[dict[str, Any]] = answer.json()["votes"] if answer.status == 200 else []
    return [vote for vote in votes if vote["counts"] and not vote["retracted"]]


def await_vote(ratchet: RatchetProcess, record: str, **expected: object) -> None:
    """Return once the store's vote on this record says what is expected."""
    seen: list[Any] = []

    def there() -> bool:
        seen[:] = votes_of(ratchet, record)
        return any(all(vote.get(name) == value for name, value in expected.items()) for vote in seen)

    try:
        await_true(there, f"a vote with {expected}")
    except AssertionError as exc:
        raise AssertionError(f"{exc}; there was {json.dumps(seen)}\n{ratchet.log}") from None


def say(page: Page, text: str) -> str:
    """Say something; returns the record id of the answer, once it is whole."""
    before = page.locator("[data-ratchet-record]").count()
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")
    answer = page.locator("[data-ratchet-record]").nth(before)
    expect(answer).to_be_visible()
    record = answer.get_attribute("data-ratchet-record")
    assert record
    return record


def test_a_person_chats_and_votes(page: Page, ratchet: RatchetProcess, chat_url: str) -> None:
    page.goto(chat_url)
    record = say(page, "I need a holiday.")
    expect(page.locator("li.assistant")).to_contain_text("a holiday?")
    up = page.get_by_role("button", name="Good answer")
    expect(up).to_have_attribute("aria-pressed", "false")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("status")).to_have_text("Thank you")
    user = page.locator("body").get_attribute("data-user")
    await_vote(ratchet, record, feedback=1, source=user)
    asked = request(ratchet.admin_url, f"/api/records/{record}").json()
    assert "I need a holiday." in json.dumps(asked)
    assert "a holiday?" in json.dumps(asked)


def test_a_second_click_takes_the_vote_back(page: Page, ratchet: RatchetProcess, chat_url: str) -> None:
    page.goto(chat_url)
    record = say(page, "My brother is a robot.")
    up = page.get_by_role("button", name="Good answer")
    up.click()
    await_vote(ratchet, record, feedback=1)
    up.click()
    expect(up).to_have_attribute("aria-pressed", "false")
    await_true(lambda: votes_of(ratchet, record) == [], "a vote taken back")


def test_all_of_it_works_from_the_keyboard(browser: Browser, ratchet: RatchetProcess, chat_url: str) -> None:
    """Thumb down, then the correction that is asked for."""
    with watched_page(browser, color_scheme="dark", width=380) as page:
        page.goto(chat_url)
        record = say(page, "Hello")
        down = page.get_by_role("button", name="Bad answer")
        correction = page.get_by_label("What should it have said?")
        expect(correction).to_be_hidden()
        down.focus()
        page.keyboard.press("Space")
        expect(down).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Tab")
        expect(correction).to_be_focused()
        page.keyboard.type("Good morning!")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(correction).to_be_hidden()
        expect(down).to_be_focused()
        await_vote(ratchet, record, feedback=-1, correction="Good morning!")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1000), ("dark", 360)])
def test_the_page_has_no_barrier_that_axe_knows(browser: Browser, chat_url: str, scheme: str, width: int) -> None:
    with watched_page(browser, color_scheme=scheme, width=width) as page:
        page.goto(chat_url)
        say(page, "Hello")
        page.get_by_role("button", name="Bad answer").click()
        expect(page.get_by_label("What should it have said?")).to_be_visible()
        assert barriers(page) == []


def test_each_answer_has_thumbs_of_its_own(page: Page, ratchet: RatchetProcess, chat_url: str) -> None:
    page.goto(chat_url)
    records = [say(page, text) for text in ("Hello", "Because it rains", "What next?")]
    assert len(set(records)) == 3
    page.get_by_role("button", name="Good answer").nth(0).click()
    page.get_by_role("button", name="Bad answer").nth(2).click()
    await_vote(ratchet, records[0], feedback=1)
    await_vote(ratchet, records[2], feedback=-1)
    assert votes_of(ratchet, records[1]) == []


def test_by_hand(page: Page, ratchet: RatchetProcess, chat_url: str) -> None:
    page.goto(chat_url)
    record = say(page, "Hello")
    assert page.evaluate("id => Ratchet.vote(id, 1, {source: 'ann', tags: {page: 'x'}})", record)
    await_vote(ratchet, record, feedback=1, source="ann", tags={"page": "x"})


def test_without_send_beacon_it_fetches(browser: Browser, ratchet: RatchetProcess, other_port: int) -> None:
    """Then the page learns what became of its vote, which takes `feedback.cors_origins` on another origin."""
    with chat_server(ratchet, other_port) as url, watched_page(browser) as page:
        page.add_init_script("Navigator.prototype.sendBeacon = () => false")
        page.goto(url)
        record = say(page, "Hello")
        page.get_by_role("button", name="Good answer").click()
        expect(page.get_by_role("status")).to_have_text("Thank you")
        await_vote(ratchet, record, feedback=1)


def test_a_vote_that_was_refused_is_not_thanked_for(browser: Browser, ratchet: RatchetProcess) -> None:
    with watched_page(browser) as page:
        page.set_content("<p data-ratchet-record=x></p>")
        page.add_script_tag(url=f"{ratchet.base_url}/-/feedback.js")
        page.evaluate("navigator.sendBeacon = () => false; window.fetch = async () => ({ok: false})")
        page.get_by_role("button", name="Bad answer").click()
        expect(page.get_by_role("status")).to_have_text("Not sent")


def test_a_recycled_element_votes_for_its_new_record(page: Page, ratchet: RatchetProcess, chat_url: str) -> None:
    """Frameworks keep elements and change their attributes."""
    page.goto(chat_url)
    old, new = say(page, "Hello"), say(page, "I feel fine")
    first = page.locator("[data-ratchet-record]").nth(0)
    first.evaluate("(element, id) => { element.dataset.ratchetRecord = id; }", new)
    expect(first.get_by_role("button", name="Good answer")).to_have_count(1)
    first.get_by_role("button", name="Good answer").click()
    await_vote(ratchet, new, feedback=1)
    assert votes_of(ratchet, old) == []
