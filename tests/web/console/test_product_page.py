"""The page for product people, followed in a browser: what is bold there is a page of the console, and what is in
italics is something to read or to press on it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin
from tests.harness.pages import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/for" / "product.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^\d+\. \*\*(.+?)\*\* (.+)$", PAGE, re.MULTILINE)


def test_a_product_person_finds_what_the_page_says(admin: Admin, browser: Browser) -> None:
    assert [name for name, _ in STEPS] == ["Now", "Experiment", "Checks", "Records", "Traffic", "History"]
    with watched_page(browser, width=1200) as page:
        page.goto(admin.url)
        for name, text in STEPS:
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
            expect(page.locator("main h1")).to_have_count(1)
            expect(page.get_by_role("navigation", name="Pages").locator("[aria-current=page]")).to_have_text(name)
            if name == "Checks":
                page.locator("main tbody a").first.click()
                page.wait_for_load_state()
            for said in re.findall(r"\*(\w[^*]+)\*", text):
                expect(
                    page.locator("main").get_by_text(re.compile(re.escape(said), re.IGNORECASE)).first
                ).to_be_attached()
        page.get_by_role("link", name="Now", exact=True).click()
        for order in re.findall(r"\*(\w[^*]+)\*", PAGE.partition("## What you may decide")[2].partition("\n## ")[0]):
            expect(page.locator("main").get_by_role("button", name=order).first).to_be_attached()
