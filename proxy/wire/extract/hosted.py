"""Anthropic's Messages and chat completions where a cloud serves them under its own paths, with the model's body.

Vertex: `…/models/M:rawPredict` and `:streamRawPredict`; Bedrock: `/model/M/invoke` and `/invoke-with-response-stream`.
The body names Anthropic's version there, instead of a header.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.wire.extract import invoke

__all__ = ["SUFFIXES", "fits_chat", "fits_messages"]

SUFFIXES: Final = (":rawPredict", ":streamRawPredict", *invoke.SUFFIXES)


def fits_messages(request: dict[str, Any]) -> bool:
    """Whether the request is one to Anthropic."""
    return isinstance(request.get("messages"), list) and isinstance(request.get("anthropic_version"), str)


def fits_chat(request: dict[str, Any]) -> bool:
    """Whether the request is a chat, of a model that is not Anthropic's."""
    return isinstance(request.get("messages"), list) and "anthropic_version" not in request
