"""All that a filter of Records finds, as a file; and filters that are kept as links."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from proxy.web.console.downloads import csv_lines
from tests.harness.axe import barriers, unfold
from tests.harness.chromium import watched_page
from tests.harness.console_data import Admin, ConsoleStage
from tests.harness.serve import request


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("downloads"), hours=4)) as admin:
        yield admin


def everything(admin: Admin, query: str = "") -> list[dict[str, Any]]:
    """Of the records API, page by page."""
    rows, cursor = [], ""
    while cursor is not None:
        page = request(admin.url, f"/api/records?limit=50&{query}" + (f"&cursor={cursor}" if cursor else "")).json()
        rows, cursor = rows + page["records"], page["cursor"]
    return rows


@pytest.mark.parametrize("query", ["", "feedback=negative", "min_quality=0.7&feedback=any", "text=nothing+has+this"])
def test_a_download_has_all_records_of_the_filter(admin: Admin, query: str) -> None:
    wanted = everything(admin, query)
    assert query or len(wanted) > 200, "more than a page"
    answer = request(admin.url, f"/records/download?format=jsonl&{query}")
    assert answer.status == 200
    assert answer.headers["content-disposition"].endswith('.jsonl"')
    assert [json.loads(line) for line in answer.body.splitlines()] == wanted
    rows = list(csv.DictReader(io.StringIO(request(admin.url, f"/records/download?format=csv&{query}").body.decode())))
    assert [row["id"] for row in rows] == [row["id"] for row in wanted]
    assert [row["query"].lstrip("'") for row in rows] == [(row["query"] or "").lstrip("'") for row in wanted]
    words = request(admin.url, f"/records/count?{query}").body.decode()
    assert words.startswith(f"{len(wanted)} record")


def test_a_filter_that_means_nothing_is_no_empty_file(admin: Admin) -> None:
    for path in ("download?status=many", "download?format=xml", "count?status=many"):
        assert request(admin.url, f"/records/{path}").status == 400


def test_a_file_of_nothing_has_its_header_and_the_header_names_what_there_is(admin: Admin) -> None:
    header, *rows = request(admin.url, "/records/download?format=csv&text=nothing+has+this").body.decode().splitlines()
    assert not rows
    assert header.split(",") == list(everything(admin)[0])


def test_what_could_not_be_counted_is_said(admin: Admin) -> None:
    admin.stage.failing = True
    try:
        answer = request(admin.url, "/records/count")
    finally:
        admin.stage.failing = False
    assert answer.status == 200, "htmx shows no other"
    assert answer.body.startswith(b"Not counted: the store cannot be reached")


async def test_no_cell_is_a_formula() -> None:
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1", "plain, with a comma", 'a "quote"', "two\nlines"]

    async def pages() -> AsyncIterator[list[dict[str, Any]]]:
        yield []
        yield [{"text": text, "number": -1.5, "flags": ["=1"], "none": None} for text in hostile]

    written = b"".join([part async for part in csv_lines(pages(), ("text", "number", "flags", "none"))]).decode()
    rows = list(csv.reader(io.StringIO(written)))
    assert rows[0] == ["text", "number", "flags", "none"]
    assert [row[0] for row in rows[1:]] == [f"'{text}" for text in hostile[:7]] + hostile[7:]
    assert {tuple(row[1:]) for row in rows[1:]} == {("-1.5", '["=1"]', "")}


def test_a_download_asks_for_the_token_as_the_page_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Admin(ConsoleStage(tmp_path_factory.mktemp("locked"), token="s3cret-s3cret-s3", hours=0)) as locked:
        for path in ("/records/download?format=csv", "/records/count"):
            assert request(locked.url, path).status == 401
            bearer = {"authorization": "Bearer s3cret-s3cret-s3"}
            assert request(locked.url, path, headers=bearer).status == 200


@pytest.mark.slow
def test_a_filter_is_counted_downloaded_copied_and_saved(admin: Admin, browser: Browser) -> None:
    with watched_page(browser, width=390) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{admin.url}/records?text=&arm=&feedback=negative")
        found = len(everything(admin, "feedback=negative"))
        page.get_by_text("Download all that match").click()
        expect(page.locator(".found")).to_have_text(f"{found} records match.")
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        assert download.value.suggested_filename.endswith(".csv")
        page.get_by_role("button", name="Copy a link to this filter").click()
        expect(page.locator("#announce")).to_have_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == f"{admin.url}/records?feedback=negative"
        page.locator(".save").get_by_label("Save this filter as").fill("unhappy")
        page.get_by_role("button", name="Save the filter").click()
        page.goto(f"{admin.url}/records")
        unfold(page)
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("link", name="unhappy").click()
        expect(page).to_have_url(f"{admin.url}/records?feedback=negative")
        page.get_by_role("button", name="Forget the filter unhappy").click()
        expect(page.get_by_role("link", name="unhappy")).to_have_count(0)
