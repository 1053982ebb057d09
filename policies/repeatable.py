"""Whether a request may be asked once more, of another model, so that nothing happens but another answer.

Most requests to a model are questions: whoever asked runs the tools that an answer calls, and an answer that goes to
nobody has called nothing. Some are more than that. They continue what the server remembers, have it remember something,
or let it run tools by itself: a copy of those would write into a person's conversation, or send their mail twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

__all__ = ["Unfit", "why_unfit"]


class Unfit(StrEnum):
    """Why a request is not asked once more."""

    NO_TRAIN = "no_train"
    """Whoever asked wants it used for nothing but its answer."""
    STATEFUL = "stateful"
    """It continues or changes what the server keeps."""
    ACTS = "acts"
    """The server may run tools for it that do more than read."""


_STATEFUL_KINDS: Final = frozenset(("dify",))
"""Applications that keep the conversation, and run whatever their author built."""
_STATE: Final = ("previous_response_id", "previous_interaction_id", "background", "container")
"""Members of a request that, where they say anything, stand for something that the server keeps."""
_CONVERSING_KINDS: Final = frozenset(("responses",))
"""Where `conversation` is the server's own; elsewhere it is only a name."""
_HARMLESS: Final = frozenset(
    ("function", "custom", "namespace", "web_search", "web_search_preview", "file_search", "local_shell", "apply_patch")
)
"""Types of tools that whoever asked runs, or that only read."""
_HARMLESS_BEGINNINGS: Final = (
    "web_search_", "web_fetch_", "tool_search_", "bash_", "text_editor_", "computer_", "memory_"
)  # fmt: skip
"""The same with a version behind the name."""


def why_unfit(request: Mapping[str, Any], kind: str) -> Unfit | None:
    """What forbids to ask again what `request` (a JSON object, of an exchange of this kind) asks; None: nothing."""
    if request.get("store") is False:
        return Unfit.NO_TRAIN
    if kind in _STATEFUL_KINDS or any(request.get(name) for name in _STATE):
        return Unfit.STATEFUL
    if kind in _CONVERSING_KINDS and request.get("conversation"):
        return Unfit.STATEFUL
    if request.get("mcp_servers"):
        return Unfit.ACTS
    tools = request.get("tools")
    if isinstance(tools, list) and any(_acts(tool) for tool in tools):
        return Unfit.ACTS
    return None


def _acts(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if kind is None:
        return False  # a function, as Anthropic, Gemini and Ollama write them
    return not (isinstance(kind, str) and (kind in _HARMLESS or kind.startswith(_HARMLESS_BEGINNINGS)))
