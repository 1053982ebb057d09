"""Triggers that have stopped after rejections: the first page says so, and a person starts the next training there."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from policies.snapshot import CheckView
from tests.harness.axe import barriers
from tests.harness.console_data import Admin, ConsoleStage

pytestmark = pytest.mark.slow
WORSE = CheckView(id=0, done=True, verdict="reject", reasons=("31 of 200 answers are empty",))


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """A past until the first challenger was rejected by the gate, where one is enough to stop."""
    stage = ConsoleStage(tmp_path_factory.mktemp("stopped"), hours=12)
    stage.world.gate.says = WORSE
    trigger = replace(stage.world.rules.trigger, stop_after_rejections=1)
    stage.world.rules = replace(stage.world.rules, trigger=trigger)
    with Admin(stage) as admin:
        yield admin


def test_the_first_page_asks_a_person_who_trains_there(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    attention = page.locator("section").filter(has=page.locator("#attention"))
    expect(attention).to_contain_text("Triggers start no training: 1 challenger in a row was not better")
    expect(page.locator(".reasons").first).to_contain_text("trigger_config.stop_after_rejections is 1")
    assert not barriers(page)
    attention.get_by_role("link", name="See what each was like").click()
    expect(page.locator("main")).to_contain_text("31 of 200 answers are empty")

    admin.stage.world.gate.says = replace(WORSE, done=False, verdict=None)
    page.goto(admin.url)
    page.get_by_role("button", name="Retrain now").click()
    page.get_by_role("dialog").get_by_label("Why").fill("a lower learning rate")
    page.get_by_role("dialog").get_by_label("Who you are").fill("ann")
    page.get_by_role("dialog").get_by_role("button", name="Retrain now").click()
    expect(page.locator("[data-command=pending]")).to_be_visible()
    admin.let_the_loop_act()
    expect(page.locator("[data-command=done]")).to_be_visible()
    page.goto(admin.url)
    expect(page.locator(".phases [aria-current=step]")).to_have_text("checking")
    expect(attention).to_have_count(0)
