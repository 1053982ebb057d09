"""Every page in a real browser, over a real store with a past: it says what happened, and nothing goes wrong."""

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.harness.axe import barriers, unfold
from tests.harness.chromium import VIEWS, watched_page
from tests.harness.console_data import Admin
from tests.harness.serve import request

pytestmark = pytest.mark.slow

PAGES = ("/", "/checks", "/checks/1", "/checks/1?show=worse&tag=returns", "/checks/1/side-by-side?who=ann",
         "/checks/1/side-by-side?show=worse", "/experiment", "/experiment/1", "/traffic?range=24h",
         "/records", "/judge", "/runs", "/history", "/history?holds=1", "/glossary", "/settings")  # fmt: skip
SHOWN_BY_ANOTHER = ("/experiment/1", "/history", "/checks/1?show=worse&tag=returns")
"""The same page as another of PAGES, with less on it."""


def fits(page: Page) -> bool:
    """Nothing is wider than the screen."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def first_link(page: Page, table: str) -> None:
    """Go where the first row leads, and be there."""
    left = page.url
    page.locator(f"{table} tbody a").first.click()
    expect(page).not_to_have_url(left)
    page.wait_for_load_state()


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_every_page_opens_without_a_complaint_fits_and_has_no_barrier_that_axe_knows(
    admin: Admin, browser: Browser, scheme: str, width: int
) -> None:
    found: dict[str, list[str]] = {}
    with watched_page(browser, color_scheme=scheme, width=width) as page:
        for path in PAGES:
            answer = page.goto(admin.url + path)
            assert answer is not None
            assert answer.status == 200, path
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            expect(page.locator("main h1")).to_have_count(1)
            expect(page.locator("figure[data-src] canvas")).to_have_count(page.locator("figure[data-src]").count())
            assert fits(page), f"{path} is wider than {width} pixels"
            if path not in SHOWN_BY_ANOTHER:
                unfold(page)
                found[path] = barriers(page)
        for path, table in (("/records", "table.records"), ("/runs", "table.rows"), ("/history", "table.rows")):
            page.goto(admin.url + path)
            first_link(page, table)
            unfold(page)
            found[f"one of {path}"] = barriers(page)
        page.goto(f"{admin.url}/experiment")
        page.get_by_role("button", name="Change the share").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        found["the dialog"] = barriers(page)
    assert not {path: lines for path, lines in found.items() if lines}


def test_the_judges_page_tells_its_standing_its_cost_and_where_people_disagree(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/judge")
    expect(page.get_by_role("heading", name="Its score counts")).to_be_visible()
    expect(page.locator("main")).to_contain_text("31 of 300 in the last hour")
    rows = page.locator("section[aria-labelledby=differ] tbody tr")
    expect(rows).to_have_count(50)
    first_link(page, "section[aria-labelledby=differ]")
    expect(page.get_by_role("heading", name="Feedback and scores")).to_be_visible()


def test_every_page_of_the_menu_is_among_those_that_are_opened(admin: Admin) -> None:
    menu = request(admin.url, "/").body.decode().partition('<nav aria-label="Pages">')[2].partition("</nav>")[0]
    named = set(re.findall(r'href="([^"]+)"', menu))
    assert len(named) > 1
    assert named <= {page.partition("?")[0] for page in PAGES}


def test_now_says_what_happens_why_and_what_next(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    expect(page.locator(".phases [aria-current=step]")).to_have_text("testing")
    expect(page.locator("#lead")).to_contain_text("serves 30 % of the users")
    expect(page.locator(".reasons")).to_contain_text("Best estimate")
    expect(page.get_by_role("heading", name="Next training")).to_be_visible()
    expect(page.locator(".triggers li").filter(has_text="new samples")).to_contain_text(
        "new quality samples, 400 needed"
    )
    expect(page.locator("#triggers ~ .hint").first).to_have_text(
        "One model at a time: the next training waits until the experiment ends."
    )
    expect(page.locator("#models ~ ul")).to_contain_text("healthy")


def test_the_experiment_shows_its_confidence_sequence_and_why_it_is_not_promoted(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/experiment")
    expect(page.get_by_role("heading", name="Why it is not promoted yet")).to_be_visible()
    lift = page.locator("#chart-lift")
    expect(lift.locator("canvas")).to_be_visible()
    expect(lift.locator("figcaption")).to_contain_text(re.compile(r"estimated [+−].* at least [+−].* at most [+−]"))
    lift.get_by_text("As a table").click()
    expect(lift.locator("details tbody tr").nth(4)).to_be_visible()
    for name in ("errors", "slow answers", "quality", "thumbs up"):
        expect(page.locator("#guards ~ .scroll").get_by_role("rowheader", name=name)).to_be_visible()
    expect(page.locator("#guards ~ .scroll tbody .wide").first).to_have_text(re.compile(r"^[0-9.]+ % against"))
    expect(page.locator("#split ~ ul")).to_contain_text(
        re.compile(r"No proof that they differ \(n = [1-9][0-9,]* users\)")
    )


def test_the_charts_of_traffic_have_each_arm_that_had_users(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/traffic?range=24h")
    expect(page.locator("#chart-requests figcaption")).to_contain_text("requests in 24 hours")
    for name in ("requests", "errors", "refused", "latency", "tokens", "quality", "votes"):
        labels = page.locator(f"#chart-{name} .legend .label")
        expect(labels).to_have_text(["champion", "challenger", "control"])
    page.goto(f"{admin.url}/traffic?range=6h")
    expect(page.locator("#chart-requests .legend .label")).to_have_text(["champion", "challenger"])


def test_a_young_installs_charts_begin_where_its_traffic_does(admin: Admin) -> None:
    for chosen, steps in (("30d", 12), ("7d", 48), ("1h", 60)):  # of four hours, an hour, a minute: two days in all
        charts = request(admin.url, f"/traffic/data?range={chosen}").json()
        assert steps <= len(charts["requests"]["x"]) <= steps + 1, chosen
    assert charts["latency"]["x"] == charts["requests"]["x"]


def test_what_was_served_before_the_first_look_is_named_so(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/traffic?range=7d")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="before the loop’s first check"))
    expect(row).to_contain_text("champion")


def test_a_record_of_before_the_first_look_says_who_answered(admin: Admin) -> None:
    page, newer = request(admin.url, "/api/records?limit=500").json(), {}
    while page["cursor"] is not None:
        page, newer = request(admin.url, f"/api/records?limit=500&cursor={page['cursor']}").json(), page
    oldest = [*newer.get("records", ()), *page["records"]][-1]
    assert oldest["model"] is None
    shown = request(admin.url, f"/records/{oldest['id']}").body.decode()
    assert "Answered by the configured champion, before the loop’s first check." in shown


def test_a_record_that_failed_inside_a_200_and_was_read_in_part_says_so(admin: Admin) -> None:
    found = request(admin.url, "/api/records?outcome=upstream_error&status=2xx").json()["records"]
    shown = request(admin.url, f"/records/{found[0]['id']}").body.decode()
    assert "200 upstream error" in shown
    assert "The model failed" in shown
    assert "could not be read" in shown
    assert "not used: there is no complete answer" in shown
    listed = request(admin.url, "/records?outcome=upstream_error&status=2xx").body.decode()
    assert listed.count("partly read") == len(found)


def test_the_list_can_leave_a_kind_out(admin: Admin) -> None:
    everything = request(admin.url, "/records").body.decode()
    assert '<option value="-task">all but task</option>' in everything
    without = request(admin.url, "/records?kind=-task").body.decode()
    assert '<option value="-task" selected>all but task</option>' in without
    rows = request(admin.url, "/api/records?kind=-task").json()["records"]
    assert rows
    assert all(f"/records/{row['id']}" in without for row in rows[:50])
    assert request(admin.url, "/api/records?kind=-chat").json()["records"] == []
    assert request(admin.url, "/records?kind=-tasks").status == 400


def test_a_conversation_is_followed_from_a_record(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/records?outcome=refused")
    page.locator("table.rows tbody a").first.click()
    expect(page.locator("main")).to_contain_text("404 refused")
    expect(page.locator("dl.facts")).to_contain_text("First token")
    page.locator("a[href*=conversation_hash]").click()
    expect(page.locator("table.rows tbody")).to_contain_text("404 refused")
    expect(page.get_by_label("or its hash")).to_have_value(re.compile("^f{10}"))


def test_records_are_searched_paged_and_opened(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/records")
    rows = page.locator("table.records tbody tr")
    expect(rows).to_have_count(50)
    first = rows.first.inner_text()
    page.get_by_role("link", name="Older »").click()
    expect(rows.first).not_to_have_text(first, use_inner_text=True)
    expect(rows).to_have_count(50)
    page.get_by_label("Arm").select_option("challenger")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(rows.locator(".arm.champion")).to_have_count(0)
    expect(rows.locator(".arm.challenger")).to_have_count(50)
    page.wait_for_load_state()  # only then there are keys
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Routing")).to_be_visible()
    expect(page.locator("#routed ~ p").first).to_contain_text("assigned by their hash to the challenger of experiment")
    page.locator(".pairs a[href*=user_hash]").click()
    expect(page).to_have_url(re.compile("user_hash="))
    expect(rows.first).to_be_visible()


def test_a_filter_that_means_nothing_says_so(admin: Admin) -> None:
    answer = request(admin.url, "/records?min_quality=good")
    assert answer.status == 400
    assert "min_quality: &#39;good&#39; is not a number" in answer.body.decode()


def test_the_newest_experiment_says_what_the_users_past_would_save(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/experiment")
    expect(page.locator("section").filter(has=page.locator("#numbers"))).to_contain_text(
        "The users' past would save about 18.0 % of the wait here: of 400 users of experiment 1, 300 were here before."
    )
    page.goto(f"{admin.url}/experiment/1")
    expect(page.locator("body")).not_to_contain_text("The users' past")


def test_the_experiment_shows_its_challengers_road(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/experiment/1")
    steps = page.get_by_role("list", name="The road of this challenger").get_by_role("listitem")
    expect(steps).to_have_count(4)
    expect(steps.nth(0)).to_contain_text("Passed")
    expect(steps.nth(0)).to_contain_text("not worse by 0.07 or more")
    expect(steps.nth(1)).to_contain_text("No copies of requests were sent to it.")
    expect(steps.nth(2)).to_contain_text("Promote")
    expect(steps.nth(3)).to_contain_text("Watched")
    page.goto(f"{admin.url}/experiment")
    now = page.locator(".road [aria-current=step]")
    expect(now).to_contain_text("Shares of the users: 15 %, then 30 %. Next: 50 %.")
    page.locator(".road").get_by_role("link", name="Check").click()
    expect(page.get_by_role("heading", name="What it found")).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="answers side by side").click()
    expect(page.get_by_role("heading", name="Which answer is better?")).to_be_visible()


def test_every_stage_is_a_row_and_what_the_next_waits_for(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    expect(page.locator(".reasons")).to_contain_text("before it rises to 50 %")
    page.get_by_role("link", name="stage 2").click()
    table = page.get_by_role("table", name="Each stage by itself")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("tbody tr").nth(0)).to_contain_text("15 %")
    expect(table.locator("tbody tr").nth(1)).to_contain_text("30 %")
    expect(page.locator("main")).to_contain_text("Before the share rises to 50 %:")
    page.goto(f"{admin.url}/history")
    page.get_by_role("link", name="Raise the share").first.click()
    expect(page.get_by_role("table", name="Each stage by itself").locator("tbody tr")).to_have_count(1)
    expect(page.locator("main")).to_contain_text("The share rises to 30 % now.")
    page.goto(f"{admin.url}/history")
    page.get_by_role("link", name="Decide for the challenger").click()
    expect(page.get_by_role("table", name="Each stage by itself")).to_be_visible()
    expect(page.locator("main")).not_to_contain_text("The share rises")


def test_the_watch_is_shown_with_its_control(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/experiment/1")
    watch = page.locator("section").filter(has=page.locator("#watched"))
    expect(watch.locator(".arm.control")).to_be_visible()
    expect(watch).to_contain_text("10 % of the users")
    expect(watch).to_contain_text(re.compile(r"control base\s*[1-9]\d* requests\s*[1-9]\d* users"))
    expect(watch.get_by_role("rowheader", name="errors")).to_be_visible()
    page.goto(f"{admin.url}/records?arm=control")
    expect(page.locator("table.rows tbody tr").first).to_contain_text("control")


def test_a_run_shows_its_data_what_was_left_out_and_its_log(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/runs")
    page.locator("table.rows tbody a").first.click()
    expect(page.locator("#dropped ~ ul li").first).to_contain_text("no feedback")
    expect(page.locator("#result ~ dl")).to_contain_text("0.2714")
    expect(page.locator("section[aria-labelledby=log] pre")).to_contain_text("step  390")


def test_a_decision_opens_with_its_evidence(admin: Admin, page: Page) -> None:
    page.goto(f"{admin.url}/history")
    page.get_by_role("link", name="Decide for the challenger").click()
    expect(page.locator(".reasons")).to_contain_text("At least 95 % sure that the challenger is not worse")
    page.get_by_text("What the loop saw").click()
    expect(page.locator("pre").first).to_contain_text('"phase": "testing"')


def test_what_is_not_there_is_a_page_that_says_so(admin: Admin) -> None:
    for path in (
        "/experiment/99",
        "/records/nothing",
        "/runs/none",
        "/history/99999",
        "/traffic?range=century",
        "/checks/99",
        "/checks/99/side-by-side",
        "/checks/1/side-by-side?item=none",
        "/checks/1?show=best",
    ):
        answer = request(admin.url, path)
        assert answer.status in (400, 404), path
        assert b"<main" in answer.body
    for path in ("/static/../page.py", "/static/app.py"):
        assert request(admin.url, path).status == 404


def test_without_a_store_the_page_still_tells(admin: Admin) -> None:
    admin.stage.failing = True
    try:
        now = request(admin.url, "/")
        assert now.status == 200
        assert b"the disk is gone" in now.body
        assert b"runs the loop" not in now.body, "there is no other controller"
        assert request(admin.url, "/records").status == 503
    finally:
        admin.stage.failing = False


def test_a_page_that_renews_itself_leaves_the_focus_where_it_is(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    button = page.locator("#verb-pause")
    button.focus()
    admin.stage.failing = True  # so that there is something new to show
    try:
        expect(page.locator("#live")).to_contain_text("the disk is gone")
        expect(button).to_be_focused()
    finally:
        admin.stage.failing = False
    expect(page.locator("#live")).not_to_contain_text("the disk is gone")
    expect(button).to_be_focused()


def test_a_page_that_has_nothing_new_to_show_is_left_alone(admin: Admin, page: Page) -> None:
    """From the first look on: a new copy of the same would cost the reader's selection."""
    page.goto(f"{admin.url}/experiment")
    page.evaluate("document.querySelector('#live').firstElementChild.kept = true")
    for _ in range(2):
        with page.expect_response(lambda answer: "hx-request" in answer.request.headers) as looked:
            page.evaluate("document.body.dispatchEvent(new CustomEvent('tick'))")
        assert looked.value.finished() is None
    page.evaluate("document.body.dispatchEvent(new CustomEvent('tick'))")
    expect(page.locator("#live-state")).to_have_text("live")
    assert page.evaluate("document.querySelector('#live').firstElementChild.kept")


def test_everything_that_a_page_names_is_served_and_may_be_kept(admin: Admin) -> None:
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', request(admin.url, "/traffic").body.decode())
    assert len(names) >= 7
    for name in names:
        answer = request(admin.url, name)
        assert answer.status == 200, name
        assert "immutable" in answer.headers["cache-control"]
        assert not urlsplit(name).netloc
