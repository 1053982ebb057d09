"""A challenger on its way to its test: what the first page and the experiment page say, step by step."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Locator, Page, expect

from policies.snapshot import CheckView
from tests.harness.axe import barriers
from tests.harness.console_data import Admin, ConsoleStage

pytestmark = pytest.mark.slow
RUNNING = CheckView(id=0, reasons=("12 of 200 answers are compared",), progress=0.06)


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """A past until the first challenger is being checked; it is to be shadowed next."""
    stage = ConsoleStage(tmp_path_factory.mktemp("checking"), hours=12)
    stage.world.gate.says = RUNNING
    stage.world.rules = replace(
        stage.world.rules, ab_test=replace(stage.world.rules.ab_test, shadow_share=0.25, shadow_hours=1.0)
    )
    with Admin(stage) as admin:
        yield admin


def steps(page: Page) -> Locator:
    return page.get_by_role("list", name="The road of this challenger").get_by_role("listitem")


def test_from_the_check_over_the_shadow_to_the_test(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    card = page.locator("section").filter(has=page.locator("#check"))
    expect(card).to_contain_text("12 of 200 answers are compared")
    expect(card).to_contain_text("No user sees it yet.")
    expect(card.get_by_role("progressbar", name="Progress of the check")).to_have_js_property("value", 0.06)
    for name in ("Proceed to the test", "Cancel the run"):
        expect(page.get_by_role("button", name=name)).to_be_visible()
    assert not barriers(page)
    card.get_by_role("link", name="Check 1").click()
    expect(page.locator(".lead")).to_contain_text("Running")

    page.goto(f"{admin.url}/experiment")
    expect(steps(page)).to_have_count(4)
    expect(page.locator(".road [aria-current=step]")).to_contain_text("12 of 200 answers are compared")
    for n in (1, 2, 3):
        expect(steps(page).nth(n)).to_contain_text("to come")
    assert not barriers(page)

    admin.stage.world.gate.says = replace(RUNNING, done=True, verdict="pass", reasons=("no worse",))
    admin.let_the_loop_act()
    expect(page.locator(".road [aria-current=step]")).to_contain_text("Shadow: Running")
    expect(steps(page).nth(0)).to_contain_text("Passed")
    expect(steps(page).nth(0)).to_have_class("is-done")
    page.goto(admin.url)
    expect(card).to_contain_text("gets copies of live requests")

    page.get_by_role("button", name="Proceed to the test").click()
    page.get_by_role("dialog").get_by_label("Why").fill("enough seen")
    page.get_by_role("dialog").get_by_label("Who you are").fill("ann")
    page.get_by_role("dialog").get_by_role("button", name="Proceed to the test").click()
    expect(page.locator("[data-command=pending]")).to_be_visible()
    admin.let_the_loop_act()
    expect(page.locator("[data-command=done]")).to_be_visible()
    page.goto(f"{admin.url}/experiment")
    expect(page.get_by_role("heading", name="On its way to a test")).to_have_count(0)
    expect(steps(page).nth(1)).to_contain_text("Shadow: Ended before a verdict")
    expect(steps(page).nth(1)).to_have_class("is-open")
    assert not barriers(page)
    expect(page.locator(".road [aria-current=step]")).to_contain_text("Test")
    expect(steps(page).nth(2)).to_contain_text("15 % of the users. Next: 30 %.")
