"""Every page under axe-core: light and wide, dark and narrow; with RATCHET_FULL=1 also the other way round."""

import os

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.harness.axe import barriers
from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin

pytestmark = pytest.mark.slow

PAGES = ("/", "/experiment", "/traffic?range=24h", "/records", "/runs", "/history?holds=1")
VIEWS = [("light", 1200), ("dark", 360)]
if os.environ.get("RATCHET_FULL") == "1":
    VIEWS += [("light", 360), ("dark", 1200)]


def first_link(page: Page, table: str) -> None:
    """Go where the first row leads, and be there."""
    left = page.url
    page.locator(f"{table} tbody a").first.click()
    expect(page).not_to_have_url(left)
    page.wait_for_load_state()


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_no_page_has_a_barrier_that_axe_knows(admin: Admin, browser: Browser, scheme: str, width: int) -> None:
    found: dict[str, list[str]] = {}
    with watched_page(browser, color_scheme=scheme, width=width) as page:
        for path in PAGES:
            page.goto(admin.url + path)
            expect(page.locator("figure[data-src] canvas")).to_have_count(page.locator("figure[data-src]").count())
            for details in page.locator("main details > summary").all():
                details.click()
            found[path] = barriers(page)
        for path, table in (("/records", "table.records"), ("/runs", "table.rows"), ("/history", "table.rows")):
            page.goto(admin.url + path)
            first_link(page, table)
            for details in page.locator("main details > summary").all():
                details.click()
            found[f"one of {path}"] = barriers(page)
        page.goto(f"{admin.url}/experiment")
        page.get_by_role("button", name="Change the share").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        found["the dialog"] = barriers(page)
    assert not {path: lines for path, lines in found.items() if lines}
