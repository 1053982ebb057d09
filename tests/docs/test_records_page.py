"""The tables that a part of the reference is drawn from."""

from tests.harness import records_page


def test_the_page_of_records_is_drawn_from_the_tables() -> None:
    page = records_page.PAGE.read_text(encoding="utf-8")
    assert page == records_page.replaced(page), "run `make docs`"
    assert records_page.kinds() in page
    assert records_page.formats() in page
