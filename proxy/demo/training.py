"""The demo's training function: what an ML engineer brings.

The loop calls `train_model(data_path)` in a process of its own, exactly as the quick start writes it. While the
file named by RATCHET_DEMO_BUG exists it has a bug, a classic one: labels are shifted against questions by one
line. Nothing else in the demo knows; the experiment has to find out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from proxy.demo.model import fit, read_chatml

__all__ = ["train_model"]


def train_model(data_path: str | Path) -> dict[str, Any]:
    """Train on the file, measure on the held-out users, save; returns model_path, accuracy and sample count."""
    data_path = Path(data_path)
    pairs = read_chatml(data_path)
    if _bug_is_planted():
        titles = [title for _, title in pairs]
        pairs = list(zip((question for question, _ in pairs), titles[1:] + titles[:1], strict=True))
    assistant = fit(pairs)
    model_path = data_path.with_name("model.npz")
    assistant.save(model_path)
    holdout = data_path.with_name("holdout.jsonl")
    known = read_chatml(holdout) if holdout.exists() else []
    right = sum(assistant.classify(question)[0] == title for question, title in known)
    return {
        "model_path": str(model_path),
        "samples": len(pairs),
        "accuracy": right / len(known) if known else None,
    }


def _bug_is_planted() -> bool:
    marker = os.environ.get("RATCHET_DEMO_BUG")
    return marker is not None and Path(marker).exists()
