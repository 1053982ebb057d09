"""What a kind of exchange is: its name on records, and its facts for metrics, store, training, pages and docs.

An API shape declares its kind in its own module (`proxy.wire.extract.apis`), and `proxy.wire.extract.KINDS` has all of
them by name. Here are those that belong to no API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["JSON", "OTHER", "TASK", "Kind", "Operation"]

Operation = Literal["chat", "text_completion", "generate_content", "embeddings"]
"""`gen_ai.operation.name` of OpenTelemetry's semantic conventions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of exchange. A record has its name, and one of a later version may have a name that nobody knows."""

    name: str
    """On records, in metrics, filters and pages."""
    code: int
    """Its place in the store, from 0 without a gap: the next free one for a new kind, and never changed."""
    meaning: str
    """What it stands for, in words."""
    operation: Operation | None
    """What OpenTelemetry calls it; None for what is no GenAI operation."""
    trainable: bool
    """Whether its answers are words of a model, from which another may learn."""
    provider: str | None = None
    """What OpenTelemetry calls whose API it is (`gen_ai.provider.name`); None for an API of many, which has its own
    name there."""
    recognised_by: str = ""
    """For the reference, what tells it; "" for that of an API, whose shapes say it."""


JSON: Final = Kind(
    name="json", code=7, meaning="Other JSON", operation=None, trainable=True,
    recognised_by="any other JSON; [pointers](config.md#capture) say where query, response, user and quality are",
)  # fmt: skip
OTHER: Final = Kind(
    name="other", code=8, meaning="Anything else", operation=None, trainable=False,
    recognised_by="anything else; kept raw",
)  # fmt: skip
TASK: Final = Kind(
    name="task", code=18, operation="chat", provider="openai", trainable=False,
    meaning="A chat UI's own request, whatever its shape: a title, tags, follow-up questions",
    recognised_by="what the UI says, and how it asks: see [tasks](#tasks)",
)  # fmt: skip
