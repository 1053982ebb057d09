"""While a new champion is watched: the first page and the challenger's road say how that goes, each thing once."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.harness.axe import barriers
from tests.harness.console_data import Admin, ConsoleStage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """A past that ends two hours before the end of the watch."""
    with Admin(ConsoleStage(tmp_path_factory.mktemp("watching"), hours=24)) as admin:
        yield admin


def test_a_running_watch_is_told_once(admin: Admin, page: Page) -> None:
    page.goto(admin.url)
    watch = page.locator("section").filter(has=page.locator("#watch"))
    expect(watch).to_contain_text("2.0 hours of the watch window to go.")
    assert watch.inner_text().count("to go") == 1
    expect(watch.locator(".arm.control")).to_be_visible()
    expect(watch.get_by_role("rowheader", name="errors")).to_be_visible()
    assert not barriers(page)
    page.goto(f"{admin.url}/experiment/1")
    step = page.locator(".road [aria-current=step]")
    expect(step).to_contain_text("2.0 hours of the watch window to go.")
    assert step.inner_text().count("to go") == 1
