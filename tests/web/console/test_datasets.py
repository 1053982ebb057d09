"""The pages of a dataset in a real browser: what is taught, where it comes from, what was left out, what changed."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.harness.axe import barriers, unfold
from tests.harness.chromium import VIEWS, watched_page
from tests.harness.console_data import Admin
from tests.harness.serve import request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(admin: Admin) -> list[str]:
    """Newest first: of the older one the lines are gone, as its training has ended."""
    found = re.findall(r'href="/runs/(run-[^"]+)"', request(admin.url, "/runs").body.decode())
    assert len(found) == 2
    return found


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_the_head_adds_up_and_says_whose_answers_these_are(admin: Admin, page: Page, runs: list[str]) -> None:
    page.goto(f"{admin.url}/runs/{runs[0]}")
    page.get_by_role("link", name="Look at the data").click()
    lead = page.locator(".lead")
    expect(lead).to_contain_text("1,990 records seen = 1,166 used + 824 left out")
    expect(lead).to_contain_text("59 % by models trained here, 2 generations")
    expect(lead).to_contain_text("by characters / 4")
    expect(lead).to_contain_text("1.24")
    whose = page.get_by_role("region", name="Whose answers")
    for words in ("people’s corrections", "Generation 2", "Liked by people", "Rehearsal", "31, left out"):
        expect(whose).to_contain_text(words)
    dropped = page.get_by_role("region", name="Left out, and why")
    dropped.get_by_text("20 examples of no feedback").click()
    dropped.locator(".examples a[href^='/records']").first.click()
    expect(page.get_by_role("heading", name="Conversation")).to_be_visible()


def test_lines_are_conversations_with_their_provenance(admin: Admin, page: Page, runs: list[str]) -> None:
    page.goto(f"{admin.url}/runs/{runs[0]}/data")
    lines = page.locator(".samples > li")
    expect(lines).to_have_count(20)
    tools = page.get_by_role("article", name="Line 2", exact=True)
    expect(tools).to_contain_text("assistant calls a tool · id call_1")
    expect(tools).to_contain_text('stock({"part": "hinge"})')
    expect(tools).to_contain_text("tool answers · answers call_1")
    expect(tools).to_contain_text("a model trained here")
    expect(tools).to_contain_text("generation 2")
    expect(tools).to_contain_text("vote +1")
    disliked = page.get_by_role("article", name="Line 3", exact=True)
    expect(disliked.locator(".untaught")).to_contain_text("not taught: weight 0")
    expect(disliked).to_contain_text("Do you sell <b>hinges</b>?")
    picture = page.get_by_role("article", name="Line 4", exact=True)
    expect(picture.get_by_role("img", name=re.compile(r"\[picture, \d+ bytes\]"))).to_be_visible()
    assert picture.locator("img").evaluate("image => image.naturalWidth") == 96
    thought = page.get_by_role("article", name="Line 5", exact=True).locator("details")
    expect(thought.locator(".words")).to_be_hidden()
    thought.locator("summary").click()
    expect(thought.locator(".words")).to_contain_text("They ask about hinges")
    expect(page.get_by_role("article", name="Line 10", exact=True)).to_contain_text("rehearsal")
    tools.locator("a[href^='/records/']").click()
    expect(page.get_by_role("heading", name="Routing")).to_be_visible()


def test_lines_are_paged_to_the_last_and_split(admin: Admin, page: Page, runs: list[str]) -> None:
    page.goto(f"{admin.url}/runs/{runs[0]}/data")
    page.get_by_role("link", name="Newer »").click()
    expect(page.get_by_role("article", name="Line 21", exact=True)).to_be_visible()
    page.get_by_role("link", name="Newest").click()
    expect(page.get_by_role("article", name="Line 59", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Newer »")).to_have_count(0)
    page.get_by_role("link", name="« Older").click()
    expect(page.get_by_role("article", name="Line 40", exact=True)).to_be_visible()
    page.get_by_role("link", name="Held out").click()
    expect(page.locator(".samples > li")).to_have_count(6)


def test_lines_that_are_gone_leave_their_records(admin: Admin, page: Page, runs: list[str]) -> None:
    page.goto(f"{admin.url}/runs/{runs[1]}/data")
    expect(page.locator("main")).to_contain_text("The file is no longer on this host")
    left = page.get_by_role("region", name="The lines").locator("ul.plain > li")
    expect(left).to_have_count(20)
    left.first.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Conversation")).to_be_visible()


def test_two_datasets_are_compared(admin: Admin, page: Page, runs: list[str]) -> None:
    page.goto(f"{admin.url}/runs/{runs[0]}")
    page.get_by_role("link", name="What changed since the run before").click()
    expect(page.locator(".lead")).to_contain_text(f"Before: {runs[1]}")
    expect(page.locator(".lead dl.facts")).to_contain_text("60")
    expect(page.get_by_role("region", name="Counts")).to_contain_text("records used")
    expect(page.locator(".examples li")).not_to_have_count(0)
    page.goto(f"{admin.url}/runs/{runs[1]}/diff")
    expect(page.locator(".lead")).to_contain_text("There is no dataset before this one")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".lead")).to_contain_text(f"Before: {runs[0]}, as selected here")


def test_history_leads_to_the_data_that_was_built(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/history")
    page.get_by_role("link", name="Prepare training data").first.click()
    page.get_by_role("link", name="the training data").click()
    expect(page.locator("main h1")).to_contain_text("Training data of")


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_no_page_of_a_dataset_has_a_barrier(
    admin: Admin, browser: Browser, runs: list[str], scheme: str, width: int
) -> None:
    found: dict[str, list[str]] = {}
    with watched_page(browser, color_scheme=scheme, width=width) as page:
        for path in (f"/runs/{runs[0]}/data", f"/runs/{runs[1]}/data", f"/runs/{runs[0]}/diff"):
            answer = page.goto(admin.url + path)
            assert answer is not None
            assert answer.status == 200
            assert "unsafe" not in answer.headers["content-security-policy"]
            unfold(page)
            assert fits(page), path
            found[path] = barriers(page)
    assert not {path: lines for path, lines in found.items() if lines}


def test_what_is_not_there_is_a_page_that_says_so(admin: Admin, runs: list[str]) -> None:
    for path, status in (
        ("/runs/none/data", 404), ("/runs/none/diff", 404), ("/runs/.hidden/data", 404),
        (f"/runs/{runs[0]}/data?page=0", 400), (f"/runs/{runs[0]}/data?page=x", 400),
        (f"/runs/{runs[0]}/data?split=odd", 400), (f"/runs/{runs[0]}/diff?with=none", 404),
        (f"/runs/{runs[0]}/diff?with=..%2f..", 404), (f"/runs/{runs[0]}/data?page=999", 200),
    ):  # fmt: skip
        answer = request(admin.url, path)
        assert (answer.status, b"<main" in answer.body) == (status, True), path


def test_the_api_says_the_same(admin: Admin, runs: list[str]) -> None:
    document = request(admin.url, f"/api/datasets/{runs[0]}").json()
    assert document["seen"] == document["used"] + document["left_out"]
    assert document["former"] == runs[1]
    assert {reason["reason"]: len(reason["examples"]) for reason in document["dropped"]}["user_cap"] == 20
    lines = request(admin.url, f"/api/datasets/{runs[0]}/lines?limit=5&page=2").json()
    assert [line["number"] for line in lines["lines"]] == [6, 7, 8, 9, 10]
    assert lines["total"] == 59
    assert lines["lines"][4]["rehearsal"] is True
    assert lines["lines"][0]["sources"][0]["there"] is True
    assert request(admin.url, f"/api/datasets/{runs[1]}/lines").json()["lines"] is None
    diff = request(admin.url, f"/api/datasets/{runs[0]}/diff").json()
    assert (diff["former"], diff["records"]) == (runs[1], {"new": 60, "gone": 60, "same": 0})
    for path in ("none", "none/lines", "none/diff", f"{runs[1]}/diff"):
        assert request(admin.url, f"/api/datasets/{path}").status == 404, path
    for query in ("limit=0", "limit=101", "limit=x", f"limit={'1' * 5000}", "page=0", "page=-1", "split=odd"):
        assert request(admin.url, f"/api/datasets/{runs[0]}/lines?{query}").status == 400, query


def test_lines_are_chosen_by_why_they_are_there(admin: Admin, runs: list[str]) -> None:
    everything = request(admin.url, f"/api/datasets/{runs[0]}/lines?limit=100").json()
    by_author: dict[str, list[int]] = {}
    for line in everything["lines"]:
        for source in line["sources"]:
            by_author.setdefault(source["author"], []).append(line["number"])
    assert set(by_author) == {"person", "own", "elsewhere"}
    for author, numbers in by_author.items():
        found = request(admin.url, f"/api/datasets/{runs[0]}/lines?limit=100&why={author}").json()
        assert [line["number"] for line in found["lines"]] == numbers
        assert found["total"] == len(numbers)
    liked = request(admin.url, f"/runs/{runs[0]}/data?why=liked").body.decode()
    assert 'vote <span class="up">+1' in liked
    assert 'vote <span class="down">' not in liked
    second = request(admin.url, f"/api/datasets/{runs[0]}/lines?limit=5&page=2&why=own").json()["lines"]
    assert [line["number"] for line in second] == by_author["own"][5:10]
    assert request(admin.url, f"/runs/{runs[0]}/data?why=luck").status == 400


def test_what_was_left_out_for_a_reason_is_shown_whole(admin: Admin, page: Page, runs: list[str]) -> None:
    page.goto(f"{admin.url}/runs/{runs[0]}/data")
    page.get_by_text("20 examples of near duplicate").click()
    page.get_by_role("link", name="Show them whole: near duplicate").click()
    section = page.get_by_role("region", name="Left out: near duplicate")
    expect(section).to_contain_text("20 of 84: a build notes the newest of each reason.")
    expect(section.locator("article")).to_have_count(20)
    assert barriers(page) == []
    section.locator("article a").first.click()
    expect(page.get_by_role("heading", name="Conversation")).to_be_visible()
    assert request(admin.url, f"/runs/{runs[0]}/data?reason=luck").status == 404
