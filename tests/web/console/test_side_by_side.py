"""Two answers side by side, in a real browser: blind until the choice, by keyboard, taken back, and safe to look at."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.harness.compared_answers import HOSTILE
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import Answer, request

pytestmark = pytest.mark.slow
FORM = {"content-type": "application/x-www-form-urlencoded", "x-ratchet-csrf": "1", "hx-request": "true"}
TOTAL = 63


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """A past until the middle of its first experiment; and what is chosen here, no other file's pages show."""
    with Admin(ConsoleStage(tmp_path_factory.mktemp("compared"), hours=12)) as admin:
        yield admin


def comparisons(admin: Admin, **query: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = request(
        admin.url, f"/api/checks/1/comparisons?{urlencode({'limit': '200', **query})}"
    ).json()["comparisons"]
    return found


def chosen(admin: Admin, who: str) -> dict[str, str]:
    """By item: what a person prefers."""
    everything = ((row["item"], row["preferences"]) for row in comparisons(admin))
    return {str(item): theirs[who] for item, theirs in everything if isinstance(theirs, dict) and who in theirs}


def prefer(admin: Admin, headers: dict[str, str] | None = None, **fields: str) -> Answer:
    body = urlencode({"blind": "1", "show": "open", **fields}).encode()
    return request(
        admin.url, "/checks/1/prefer", method="POST", body=body, headers=FORM if headers is None else headers
    )


def shown_item(page: Page) -> str:
    return page.locator("form.verdicts input[name=item]").input_value()


def test_a_round_by_keyboard_keeps_what_was_chosen(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/checks/1")
    page.get_by_role("link", name="Compare answers blind").click()
    expect(page.get_by_role("button", name="Left is better")).to_be_disabled()
    page.get_by_role("textbox", name="Who you are").fill("kay")
    page.get_by_role("button", name="Apply").click()
    progress = page.locator(".progress")
    expect(progress).to_contain_text(f"0 of {TOTAL} chosen by you")
    wanted = {}
    for at, (key, place) in enumerate((("1", 0), ("ArrowRight", 1), ("0", None), ("ArrowLeft", 0), ("2", 1)), start=1):
        item = shown_item(page)
        sides = [page.locator(f"article.side:nth-child({n}) .answer").inner_text() for n in (1, 2)]
        row = next(row for row in comparisons(admin) if row["item"] == item)
        page.keyboard.press(key)
        expect(progress).to_contain_text(f"{at} of {TOTAL} chosen by you")
        wanted[item] = (None if place is None else sides[place], row)
    page.keyboard.press("u")
    expect(progress).to_contain_text(f"4 of {TOTAL} chosen by you")
    expect(page.locator("#live")).to_contain_text("Your choice was taken back.")
    assert shown_item(page) == item
    wanted.pop(item)
    kept = chosen(admin, "kay")
    assert kept.keys() == wanted.keys()
    for item, (text, row) in wanted.items():
        if text is None:
            assert kept[item] == "tie"
            continue
        own = {arm: str(row[arm]["text"]) for arm in ("champion", "challenger")}  # type: ignore[index]
        assert own[kept[item]] in text or own["champion"] == own["challenger"] or not own[kept[item]]


def test_blind_nothing_on_the_page_tells_whose_answer_is_whose_until_the_choice(admin: Admin) -> None:
    """Of each comparison, the page and the same with the models exchanged are the same but for the order."""
    rows = comparisons(admin)
    for row in rows[:12]:
        query = urlencode({"item": str(row["item"]), "who": "mia", "blind": "1"})
        html = request(admin.url, f"/checks/1/side-by-side?{query}").body.decode()
        pair = html[html.index('<div class="pair"') : html.index('<form class="verdicts"')]
        assert "champion" not in pair
        assert "challenger" not in pair
        assert "Found:" not in html
        assert f"/records/{row['record']}" not in html
        assert prefer(admin, item=str(row["item"]), who="mia", choice="left").status == 200
        after = request(admin.url, f"/checks/1/side-by-side?{query}").body.decode()
        assert 'class="arm challenger"' in after
        assert "Found:" in after
    assert set(chosen(admin, "mia").values()) == {"champion", "challenger"}


def test_sides_are_others_for_another_person_and_stay_for_the_same(admin: Admin) -> None:
    firsts: dict[str, list[str]] = {}
    items = [str(row["item"]) for row in comparisons(admin)][:40]
    for who in ("ann", "bea"):
        for item in items:
            assert prefer(admin, item=item, who=who, choice="left").status == 200
        firsts[who] = [chosen(admin, who)[item] for item in items]
        assert 8 <= firsts[who].count("challenger") <= 32
    assert firsts["ann"] != firsts["bea"]
    for item in items:
        assert prefer(admin, item=item, who="ann", choice="right").status == 200
    assert all(one != chosen(admin, "ann")[item] for item, one in zip(items, firsts["ann"], strict=True))


def test_lists_that_tell_outcomes_end_blindness(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/checks/1/side-by-side?who=zoe&show=worse&blind=1")
    expect(page.locator("article.side .arm")).to_have_text(["champion", "challenger"])
    expect(page.get_by_label("Names")).to_have_value("0")
    item = shown_item(page)
    page.get_by_role("button", name="Right is better").click()
    expect(page.locator("form.noted")).to_be_visible()
    assert chosen(admin, "zoe") == {item: "challenger"}
    expect(page).to_have_url(re.compile("last="))
    page.goto(f"{admin.url}/checks/1?show=disagrees")
    expect(page.locator("table.rows tbody")).to_contain_text("zoe: challenger")


def test_differences_calls_and_tags_are_shown(admin: Admin, page: Page) -> None:
    rows = comparisons(admin)
    by_call = next(row for row in rows if "tool_calls" in str(row["champion"]))
    page.goto(f"{admin.url}/checks/1/side-by-side?blind=0&item={by_call['item']}")
    expect(page.locator(".call")).to_have_count(2)
    expect(page.locator(".call").first).to_contain_text('"number": 4711')
    changed = next(row for row in rows if row["outcome"] == -0.1)
    page.goto(f"{admin.url}/checks/1/side-by-side?blind=0&item={changed['item']}")
    marked = page.locator("article.is-challenger mark")
    if "this" in str(changed["challenger"]):
        expect(marked.first).to_have_text("this")
    page.goto(f"{admin.url}/checks/1/side-by-side?show=all&tag=returns&who=ann")
    expect(page.locator("#asked ~ .hint")).to_contain_text("returns")


def test_what_would_like_to_be_html_is_text(admin: Admin, page: Page) -> None:
    row = next(row for row in comparisons(admin) if HOSTILE in str(row["challenger"]["text"]))  # type: ignore[index]
    page.goto(f"{admin.url}/checks/1/side-by-side?blind=0&item={row['item']}")
    answer = page.locator("article.is-challenger .answer")
    expect(answer).to_contain_text("<script>alert(1)</script> <b>bold</b>")
    expect(answer).to_contain_text("\\u202e")
    expect(answer.locator("script, b")).to_have_count(0)


def test_keys_do_nothing_while_somebody_types(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/checks/1/side-by-side?who=")
    page.get_by_label("Tag").press_sequentially("120")
    expect(page.get_by_label("Tag")).to_have_value("120")
    page.get_by_role("textbox", name="Who you are").fill("ty0")
    page.get_by_label("Tag").fill("")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".progress")).to_contain_text(f"0 of {TOTAL}")
    page.goto(f"{admin.url}/checks/1/side-by-side")
    expect(page.get_by_role("textbox", name="Who you are")).to_have_value("ty0")


def test_skipping_goes_on_and_back_without_a_choice(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/checks/1/side-by-side?who=sam")
    first = shown_item(page)
    page.keyboard.press("j")
    expect(page.locator("form.verdicts input[name=item]")).not_to_have_value(first)
    page.wait_for_load_state()
    page.keyboard.press("k")
    expect(page.locator("form.verdicts input[name=item]")).to_have_value(first)
    assert chosen(admin, "sam") == {}


def test_the_last_one_says_that_it_was(admin: Admin, page: Page) -> None:
    last = comparisons(admin)[-1]
    page.goto(f"{admin.url}/checks/1/side-by-side?who=lea&item={last['item']}")
    page.get_by_role("button", name="Neither").click()
    expect(page.get_by_role("heading", name="That was the last one")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("form.verdicts input[name=item]")).to_have_value(str(last["item"]))
    assert chosen(admin, "lea") == {}


def test_a_choice_is_refused_without_a_name_a_place_or_an_answer(admin: Admin) -> None:
    item = str(comparisons(admin)[0]["item"])
    for fields, said in (
        ({"item": item, "choice": "left"}, "Say who you are"),
        ({"item": item, "who": "eve", "choice": "champion"}, "Choose left, right or tie"),
        ({"item": "none", "who": "eve", "choice": "left"}, "no longer there"),
    ):
        answer = prefer(admin, **fields)
        assert answer.status == 422
        assert said in answer.body.decode()
    assert prefer(admin, item=item, who="e" * 201, choice="left").status == 400
    assert chosen(admin, "eve") == {}


def test_no_other_sites_page_can_choose(admin: Admin) -> None:
    item = str(comparisons(admin)[0]["item"])
    form = {"content-type": FORM["content-type"]}
    for headers in (form, {**FORM, "sec-fetch-site": "cross-site"}):
        assert prefer(admin, headers, item=item, who="eve", choice="left").status == 403
    assert chosen(admin, "eve") == {}
    answer = prefer(admin, form | {"x-ratchet-csrf": "1"}, item=item, who="deb", choice="tie")
    assert (answer.status, chosen(admin, "deb")) == (303, {item: "tie"})


def test_without_a_store_the_page_says_so(admin: Admin) -> None:
    admin.stage.failing = True
    try:
        for path in ("/checks", "/checks/1", "/checks/1/side-by-side"):
            assert request(admin.url, path).status == 503
        assert prefer(admin, item="x", who="eve", choice="left").status == 503
    finally:
        admin.stage.failing = False
