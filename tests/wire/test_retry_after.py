"""What a server that is busy may say of when to come again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.wire.retry_after import retry_after_s

NOW = "Fri, 31 Dec 1999 23:59:59 GMT"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("9" * 400, 86_400.0),
        ("Sat, 01 Jan 2000 00:00:09 GMT", 10.0),
        ("Sat, 01 Jan 2000 00:00:09 -0000", 10.0),
        ("Fri, 31 Dec 1999 23:00:00 GMT", 0.0),
        ("Sat, 01 Jan 2050 00:00:00 GMT", 86_400.0),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("soon", None),
        ("٣", None),
        ("Sat, 32 Jan 2000 00:00:00 GMT", None),
        ("Sat, 01 Jan 2000 00:00:00 +99999999999999", None),
    ],
)
def test_a_number_or_a_date(said: str, seconds: float | None) -> None:
    assert retry_after_s(CIMultiDict({"retry-after": said, "date": NOW})) == seconds


def test_a_date_needs_the_servers_own() -> None:
    """Its clock may be another than ours."""
    assert retry_after_s({"Retry-After": "Sat, 01 Jan 2000 00:00:09 GMT"}) is None
    assert retry_after_s({"Date": NOW}) is None


@given(st.text(), st.text())
def test_nothing_that_is_said_raises_or_waits_for_long(said: str, date: str) -> None:
    found = retry_after_s({"Retry-After": said, "Date": date})
    assert found is None or 0.0 <= found <= 86_400.0
