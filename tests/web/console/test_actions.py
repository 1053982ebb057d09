"""Orders from the console: with a reason, done by the loop, and by nobody else's page."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, expect

from proxy.web import console
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import Answer, request

pytestmark = pytest.mark.slow
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """A past until the middle of its first experiment; and what is ordered here, no other file's pages show."""
    with Admin(ConsoleStage(tmp_path_factory.mktemp("young"), hours=12)) as admin:
        yield admin


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """An admin port with a token, and a short past."""
    root: Path = tmp_path_factory.mktemp("locked")
    with Admin(ConsoleStage(root, token="s3cret", hours=2)) as admin:
        yield admin


def post(admin: Admin, path: str, headers: dict[str, str], **fields: str) -> Answer:
    return request(admin.url, path, method="POST", body=urlencode(fields).encode(), headers=FORM | headers)


def order(page: Page, name: str, why: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    give(page, name, why)


def give(page: Page, name: str, why: str) -> None:
    """Fill in the open dialog and send it; the order is written down then, for the loop to act on."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill(why)
    dialog.get_by_label("Who you are").fill("ann")
    dialog.get_by_role("button", name=name, exact=True).click()
    expect(page.locator("[data-command=pending]")).to_be_visible()


def test_an_order_is_pending_then_done_and_kept_with_its_reason(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    order(page, "Pause", "the database is being moved")
    admin.let_the_loop_act()
    expect(page.locator("[data-command=done]")).to_contain_text("Done.")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#phase")).to_contain_text("paused")
    expect(page.locator("#announce")).to_contain_text("paused")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_hidden()
    order(page, "Resume", "it has been moved")
    admin.let_the_loop_act()
    expect(page.locator("[data-command=done]")).to_be_visible()
    page.goto(f"{admin.url}/history")
    row = page.locator("tbody tr").filter(has_text="the database is being moved")
    expect(row).to_contain_text("ann")


def test_without_a_reason_there_is_no_order(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/experiment")
    page.get_by_role("button", name="Change the share").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Share of the users").fill("20")
    dialog.get_by_label("Who you are").fill("ann")
    dialog.get_by_role("button", name="Change the share").click()
    assert page.evaluate("document.querySelector('dialog textarea[name=why]').matches(':invalid')")
    expect(page.locator("[data-command]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_on_a_phone_the_dialog_is_read_from_its_title_and_closing_leads_back(admin: Admin, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 660}, has_touch=True, is_mobile=True)
    try:
        page = context.new_page()
        page.goto(admin.url)
        page.locator("#verb-promote").tap()
        expect(page.locator("#command-title")).to_be_focused()
        expect(page.locator("#command-title")).to_be_in_viewport()
        expect(page.locator("#command-situation")).to_contain_text("What will happen")
        expect(page.locator("#command-title")).to_be_in_viewport()
        page.evaluate("document.querySelector('#verb-promote').outerHTML += ''")  # as when the page has renewed itself
        page.get_by_role("button", name="Close").tap()
        expect(page.locator("#verb-promote")).to_be_focused()
        page.locator("#verb-promote").tap()
        page.evaluate("document.querySelector('#verb-promote').hidden = true")  # as when the order has been done
        page.keyboard.press("Escape")
        expect(page.locator("#main")).to_be_focused()
    finally:
        context.close()


def test_an_order_that_does_not_fit_is_refused_with_the_reason(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    # as on a page that is a moment old, and before it refreshes itself
    page.locator("#verb-trigger").evaluate("button => { button.hidden = false; button.click(); }")
    give(page, "Retrain now", "I cannot wait")
    admin.let_the_loop_act()
    expect(page.locator("[data-command=refused]")).to_contain_text("one retrain at a time: the phase is testing")


def test_a_challenger_is_brought_with_its_key_apart(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    page.locator("#verb-challenge").evaluate("button => { button.hidden = false; button.click(); }")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Base URL")).to_be_focused()
    dialog.get_by_label("Base URL").fill("http://127.0.0.1:9")
    dialog.get_by_label("API key").fill("sk-secret")
    dialog.get_by_label("Rewrite").fill('{"system": {"prepend": "Be brief."}}')
    give(page, "Bring a challenger", "it is new")
    admin.let_the_loop_act()
    expect(page.locator("[data-command=refused]")).to_contain_text("one challenger at a time: the phase is testing")
    page.goto(f"{admin.url}/history")
    assert "sk-secret" not in page.content()
    page.goto(admin.url)
    page.locator("#verb-challenge").evaluate("button => { button.hidden = false; button.click(); }")
    assert dialog.get_by_label("API key").input_value() == ""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"x-ratchet-csrf": "1", "sec-fetch-site": "cross-site"}, 403),
        ({"x-ratchet-csrf": "1", "sec-fetch-site": "same-site"}, 403),
        ({"x-ratchet-csrf": "1", "host": "rebound.example"}, 403),
    ],
)
def test_another_sites_page_can_order_nothing(admin: Admin, headers: dict[str, str], status: int) -> None:
    answer = post(admin, "/actions", headers, verb="promote", why="evil", who="mallory")
    assert answer.status == status
    assert b"evil" not in request(admin.url, "/").body


@pytest.mark.parametrize(
    "fields",
    [
        {"verb": "promote", "why": " ", "who": "ann"},
        {"verb": "promote", "why": "because", "who": ""},
        {"verb": "explode", "why": "because", "who": "ann"},
        {"verb": "share", "why": "because", "who": "ann", "share": "many"},
        {"verb": "pause", "why": "x" * 1001, "who": "ann"},
        {"verb": "challenge", "why": "because", "who": "ann"},
        {"verb": "challenge", "why": "because", "who": "ann", "url": "http://x", "rewrite": "[1]"},
        {"verb": "challenge", "why": "because", "who": "ann", "url": "http://x", "rewrite": "{"},
    ],
)
def test_an_incomplete_order_is_not_written_down(admin: Admin, fields: dict[str, str]) -> None:
    answer = post(admin, "/actions", {"x-ratchet-csrf": "1"}, **fields)
    assert answer.status == 422
    assert b'data-command="refused"' in answer.body


def test_a_challenger_without_a_store_is_refused_where_it_was_given(admin: Admin) -> None:
    admin.stage.failing = True
    try:
        given = {"verb": "challenge", "why": "it is new", "who": "ann", "url": "http://127.0.0.1:9"}
        answer = post(admin, "/actions", {"x-ratchet-csrf": "1"}, **given)
    finally:
        admin.stage.failing = False
    assert answer.status == 503
    assert answer.body.startswith(b'<p class="note bad" data-command="refused">the store cannot be reached')


def test_with_a_token_one_logs_in_first(locked: Admin, page: Page) -> None:
    page.goto(f"{locked.url}/runs")
    expect(page).to_have_url(f"{locked.url}/login?next=/runs")
    assert "idle" not in page.content()  # nothing of the state is told before
    page.get_by_label("Admin token").fill("s3cret")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{locked.url}/runs")
    cookies = page.context.cookies()
    assert [(c["httpOnly"], c["sameSite"]) for c in cookies] == [(True, "Strict")]
    assert "s3cret" not in cookies[0]["value"]
    page.goto(locked.url)
    order(page, "Pause", "to see whether I may")
    locked.let_the_loop_act()
    expect(page.locator("[data-command=done]")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{locked.url}/login")


def test_what_was_typed_when_the_session_ended_is_given_back_after_logging_in(locked: Admin, browser: Browser) -> None:
    page = browser.new_page()  # not watched: that a request is refused is what this is about
    page.set_default_timeout(120_000)

    def log_in() -> None:
        page.get_by_label("Admin token").fill("s3cret")
        page.get_by_role("button", name="Log in").click()

    def press_too_late(button: Locator) -> None:
        page.context.clear_cookies()
        with contextlib.suppress(Error):  # the page looks for news, too: it may be the first to hear, and be gone
            button.click(timeout=5_000)
        expect(page).to_have_url(re.compile("/login"))

    try:
        page.goto(f"{locked.url}/records")
        log_in()
        page.locator("#live tbody a").first.click()
        page.get_by_text("Correct it, or comment").click()
        page.get_by_label("It should have been").fill("The part is called B-7.")
        page.get_by_label("Comment").fill("I have looked it up.")
        here = page.url
        press_too_late(page.get_by_role("button", name="Keep it"))
        log_in()
        expect(page).to_have_url(here)
        expect(page.get_by_label("It should have been")).to_have_value("The part is called B-7.")
        expect(page.get_by_label("Comment")).to_have_value("I have looked it up.")
        expect(page.locator("#vote-answer")).to_contain_text("not sent is here again")
        page.get_by_role("button", name="Good").click()
        expect(page.locator("#record-votes")).to_contain_text("Kept.")
        expect(page.get_by_label("Comment")).to_have_value("I have looked it up.")
        page.get_by_role("button", name="Keep it").click()
        expect(page.get_by_label("Comment")).to_have_value("")
        page.reload()
        page.get_by_text("Correct it, or comment").click()
        expect(page.get_by_label("Comment")).to_have_value("")

        page.goto(locked.url)
        dialog = page.get_by_role("dialog")
        page.locator("#verb-trigger").click()
        dialog.get_by_label("Why").fill("the data is there")
        dialog.get_by_label("Who you are").fill("ann")
        press_too_late(dialog.locator("[type=submit]"))
        log_in()
        page.locator("#verb-trigger").click()
        expect(dialog.get_by_label("Why")).to_have_value("the data is there")
        page.keyboard.press("Escape")
        page.locator("#verb-trigger").click()
        expect(dialog.get_by_label("Why")).to_have_value("")
    finally:
        page.close()


def test_a_link_to_a_filter_leads_to_it_after_logging_in(locked: Admin, page: Page) -> None:
    filtered = f"{locked.url}/records?text=caf%C3%A9+a%2Bb&tag=a%3Db"
    page.goto(filtered)
    page.get_by_label("Admin token").fill("s3cret")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(filtered)
    expect(page.get_by_label("Text in query or answer")).to_have_value("café a+b")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{locked.url}/login")


def test_what_is_typed_stands_in_no_address_where_the_scripts_are_not_there(locked: Admin, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{locked.url}/login?next=/runs")
        assert "Logging in needs JavaScript." in page.content()
        page.get_by_label("Admin token").fill("s3cret")
        page.keyboard.press("Enter")
        page.wait_for_load_state()
        assert "s3cret" not in page.url
    finally:
        context.close()


def test_no_form_that_a_script_sends_would_be_an_address_without_it() -> None:
    templates = Path(console.__file__).parent / "templates"
    forms = [
        form for page in templates.glob("*.html") for form in re.findall(r"<form[^>]*hx-post[^>]*>", page.read_text())
    ]
    assert len(forms) > 4
    assert [form for form in forms if 'method="post"' not in form] == []


def test_a_wrong_token_is_told_and_leads_nowhere_else(locked: Admin) -> None:
    csrf = {"x-ratchet-csrf": "1"}
    wrong = post(locked, "/login", csrf, token="guess", next="/")
    assert wrong.status == 401
    assert b"The token is wrong." in wrong.body
    assert "set-cookie" not in wrong.headers
    for evil in ("//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"):
        right = post(locked, "/login", csrf, token="s3cret", next=evil)
        assert right.headers["hx-redirect"] == "/"
    odd = post(locked, "/login", csrf, token="s3cret", next="/records?text=€\r\nx: y")
    assert odd.headers["hx-redirect"] == "/records?text=%E2%82%ACx:%20y"
    assert post(locked, "/login", {}, token="s3cret", next="/").status == 403
    assert post(locked, "/actions", csrf, verb="pause", why="w", who="w").status == 401
