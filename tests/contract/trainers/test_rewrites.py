"""A training that returns no model but a better way to ask the champion's."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.loop.adapters.trainers.results import accept
from proxy.loop.ports import Failed, Succeeded

REWRITE = {"system": {"replace": "Be brief."}}


def test_a_rewrite_is_a_result_with_and_without_a_model() -> None:
    for result in ({"rewrite": REWRITE, "score": 0.9}, {"rewrite": REWRITE, "model_path": "hf://a/b"}):
        assert accept(result, base=None) == Succeeded(result=result)
    assert accept({"rewrite": None, "url": "http://x"}, base=None) == Succeeded(
        result={"rewrite": None, "url": "http://x"}
    )
    assert isinstance(accept({"rewrite": None, "score": 1}, base=None), Failed)


@pytest.mark.parametrize("rewrite", [{"system": {"replace": ["the users' words"]}}, {"examples": "the users' words"}])
def test_one_that_is_wrong_fails_the_run_and_its_words_are_not_written_down(rewrite: Any) -> None:
    failed = accept({"rewrite": rewrite}, base=None)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("the training's rewrite.")
    assert failed.written.startswith("the training's rewrite.")
    assert "words" not in failed.written
