"""Anthropic's Messages and chat completions where a cloud serves them under its own paths, with the model's body.

Vertex: `…/models/M:rawPredict` and `:streamRawPredict`; Bedrock: `/model/M/invoke` and `/invoke-with-response-stream`.
The body names Anthropic's version there, instead of a header.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from proxy.wire.extract.apis import chat, invoke, messages
from proxy.wire.extract.model import Shape

__all__ = ["CHAT", "MESSAGES", "fits_chat", "fits_messages"]

_SUFFIXES: Final = (":rawPredict", ":streamRawPredict", *invoke.SUFFIXES)


def fits_messages(request: dict[str, Any]) -> bool:
    """Whether the request is one to Anthropic."""
    return isinstance(request.get("messages"), list) and isinstance(request.get("anthropic_version"), str)


def fits_chat(request: dict[str, Any]) -> bool:
    """Whether the request is a chat, of a model that is not Anthropic's."""
    return isinstance(request.get("messages"), list) and "anthropic_version" not in request


MESSAGES: Final[Shape] = replace(
    messages.SHAPE,
    name="Anthropic messages behind Vertex and Bedrock",
    suffixes=_SUFFIXES,
    fits=fits_messages,
    stream=None,
)
CHAT: Final[Shape] = replace(
    chat.SHAPE, name="chat completions behind Vertex and Bedrock", suffixes=_SUFFIXES, fits=fits_chat, stream=None
)
