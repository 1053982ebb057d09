"""Bodies on a record's page: indented where that helps, and no more work than what is shown."""

from __future__ import annotations

import time

import pytest

from proxy.web.console.records import _readable

SHOWN = 65_536


def test_json_is_indented_and_other_text_is_as_it_is() -> None:
    assert _readable('{"a":[1,2e400,123456789012345678901234567890]}') == (
        '{\n  "a": [\n    1,\n    Infinity,\n    123456789012345678901234567890\n  ]\n}'
    )
    assert _readable("no JSON") == "no JSON"
    assert _readable("a" * (SHOWN + 1)) == "a" * SHOWN + "\n… cut; all of its 65,537 characters: see /api/records"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        "[" * 900 + ",".join(["0"] * 100_000) + "]" * 900,
        "[" + ",".join(["[]"] * 1_400_000) + "]",
        '["' + "a" * 4_000_000 + '"]',
        "{" + ",".join(f'"{n}":0' for n in range(200_000)) + "}",
    ],
    ids=["deep", "indented a long way", "crowded", "one long text", "members"],
)
def test_hostile_bodies_are_shown_as_quickly(text: str) -> None:
    began = time.process_time()
    shown = _readable(text)
    assert time.process_time() - began < 4.0, "a quarter of a second on an idle machine"
    assert len(shown) <= SHOWN + 80
