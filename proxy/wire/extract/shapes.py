"""The API shapes that are understood, in the order in which they are tried, and the kinds of all exchanges by name.

`dispatch` finds the shape of an exchange here, by path and request; `stream` finds that of a stream, by its events. A
new shape is a module of `apis` and a line.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from policies.kinds import JSON, OTHER, TASK, Kind
from proxy.wire.extract.apis import (
    bedrock,
    chat,
    cohere,
    cohere_v1,
    completions,
    dify,
    embeddings,
    gemini,
    hosted,
    invoke,
    kserve,
    llama_cpp,
    messages,
    ollama,
    responses,
    scores,
    sglang,
    tgi,
    watsonx,
)
from proxy.wire.extract.model import Shape

__all__ = ["KINDS", "SHAPES", "STREAMS", "served_at"]

# The order matters where one suffix ends in another (/chat/completions, /api/generate), and where an event or a request
# of one shape could pass for one of another: the first that takes it has it.
SHAPES: Final[tuple[Shape, ...]] = (
    chat.SHAPE,
    completions.FIM,
    completions.SHAPE,
    responses.SHAPE,
    messages.SHAPE,
    embeddings.SHAPE,
    ollama.SHAPE,
    hosted.MESSAGES,
    gemini.SHAPE,
    bedrock.SHAPE,
    cohere.SHAPE,
    cohere_v1.SHAPE,
    invoke.SHAPE,
    hosted.CHAT,
    tgi.SHAPE,
    sglang.SHAPE,
    kserve.SHAPE,
    llama_cpp.SHAPE,
    dify.SHAPE,
    scores.RERANK,
    scores.MODERATIONS,
    watsonx.SHAPE,
    watsonx.CHAT,
)

STREAMS: Final = tuple(shape.stream for shape in SHAPES if shape.stream is not None)

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in sorted({*(shape.kind for shape in SHAPES), JSON, OTHER, TASK}, key=lambda kind: kind.code)
}
"""By name, in the order of their codes; a record of a later version may have a kind that is not among them."""


@lru_cache(maxsize=256)
def served_at(path: str) -> tuple[Shape, ...]:
    """The shapes that may be served at `path`."""
    return tuple(shape for shape in SHAPES if shape.serves(path))
