"""Values as a person reads them."""

import pytest

from proxy.web.console.wording import FILTERS


@pytest.mark.parametrize(
    ("earliest", "latest", "said"),
    [
        (16.6, 31.7, "in 16.6 to 31.7 hours"),
        (5 / 3600, 7 / 3600, "in 5 to 7 seconds"),
        (0.5, 2.0, "in 30 minutes to 2.0 hours"),
        (1 / 60, 0.2, "in 1 minute to 12 minutes"),
        (3.0, 3.0, "in 3.0 hours"),
        (3.0, None, "in 3.0 hours or later"),
    ],
)
def test_a_stretch_of_time_names_its_unit_once(earliest: float, latest: float | None, said: str) -> None:
    assert FILTERS["until"](earliest, latest) == said


def test_a_guardrail_is_called_by_what_it_looks_at_and_one_of_another_version_by_its_name() -> None:
    assert [FILTERS["guardrail"](name) for name in ("latency", "positive", "tokens")] == [
        "slow answers",
        "thumbs up",
        "tokens",
    ]


def test_what_is_unknown_is_a_dash() -> None:
    for name in ("share", "change", "seconds", "hours", "duration", "bytes", "when", "count", "score"):
        assert FILTERS[name](None) == "–", name
