"""Functions that settings name."""

import json
from decimal import Decimal

import pytest

from proxy.callables import imported


def test_a_function_is_found_by_its_module_and_name() -> None:
    assert imported("json:loads") is json.loads
    assert imported("decimal:Decimal.from_float") == Decimal.from_float


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("no_such_module:train", ImportError),
        ("json:no_such_name", AttributeError),
        (":loads", ValueError),
        ("json:__name__", TypeError),
    ],
)
def test_what_is_no_function_says_so(target: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        imported(target)
