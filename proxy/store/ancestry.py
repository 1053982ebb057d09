"""How many trainings lie behind each model, so that a model does not feed on itself unseen.

A model that was trained here has learnt from what people got, most of it the words of the champion of that time: its
generation is one more than that champion's. Models from elsewhere are of generation 0, whatever they serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.store.control import Model

__all__ = ["TRAINED_BESIDE", "generations"]

TRAINED_BESIDE = "trained_beside"
"""In a model's `detail`: id of the champion while it was trained."""


def generations(models: Iterable[Model], met: Mapping[int, int]) -> dict[str, int]:
    """The generation of every model that was trained here (it has a run); the others are left out.

    By name and by path: an application that logs its own calls may know a model by either.

    The champion of its time is the one in its detail; of a model of an older version the one that it met in its first
    test (`met`: champion by challenger, both ids); where there was none, the model that was trained before it.
    """
    found: dict[int, int] = {}
    names: dict[str, int] = {}
    before = 0
    for model in sorted(models, key=lambda each: each.id):
        if model.run_id is None:
            found[model.id] = 0
            continue
        champion = model.detail.get(TRAINED_BESIDE, met.get(model.id))
        before = found[model.id] = 1 + found.get(champion, before)
        names |= dict.fromkeys(filter(None, (model.path, model.name)), before)
    return names
