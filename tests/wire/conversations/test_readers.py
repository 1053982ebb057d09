"""Every API's exchanges as the conversations that they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.conversations import CASES, asked, shown


@pytest.mark.parametrize(
    ("path", "request_", "response", "right"),
    [case[1:] for case in CASES],
    ids=[f"{case[1]}: {case[0]}" for case in CASES],
)
def test_an_exchange_is_the_conversation_that_it_was(
    path: str, request_: dict[str, Any], response: dict[str, Any], right: dict[str, Any]
) -> None:
    assert shown(asked(path, request_, response)) == right
