"""APIs that take a prompt and give a text: one turn of the user's, and the answer.

A prompt of token ids cannot be read; of several prompts in one request, the first is the one whose answer counts. The
text behind a gap to be filled has no place in any conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from policies.conversation import Conversation, Lack
from proxy.wire.extract.conversations.chat import converse as chat
from proxy.wire.extract.conversations.draft import Draft
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Reader
from proxy.wire.extract.values import items, mapping, text

__all__ = ["logged", "other", "plain"]

_BEHIND: Final = ("suffix", "input_suffix", "input_extra")
_TOKENS: Final = ("prompt", "input_ids")
_SHOWN: Final = ("image_data", "images", "multimodal_data")


def plain(
    parse_request: Callable[[dict[str, Any]], ParsedRequest], parse_response: Callable[[dict[str, Any]], ParsedResponse]
) -> Reader:
    """A reader for a shape that is no conversation."""

    def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
        draft = Draft()
        draft.lack(Lack.NOT_IN_FORMAT, where=any(request.get(key) for key in _BEHIND))
        draft.lack(Lack.UNREAD, where=any(_is_tokens(request.get(key)) for key in _TOKENS))
        prompt = request.get("prompt")
        shown = request if isinstance(prompt, str | list) else mapping(prompt) | request
        draft.lack(Lack.MULTIMODAL, where=any(shown.get(key) for key in _SHOWN))
        query = _first(prompt) or parse_request(request).query or ""
        draft.add_turn("user", query)
        said = parse_response(response).text or ""
        if request.get("echo") or mapping(request.get("parameters")).get("return_full_text"):
            said = said.removeprefix(query)
        return draft.finish(said)

    return converse


def logged(query: str, answer: str) -> Conversation:
    """A question and its answer as somebody logged them; what the answer thinks aloud is reasoning here, too."""
    draft = Draft()
    draft.add_turn("user", query)
    return draft.finish(answer)


def _first(prompts: Any) -> str | None:
    """The first of several prompts."""
    return text(prompts[0]) if isinstance(prompts, list) and prompts else None


def _is_tokens(prompt: Any) -> bool:
    return bool(items(prompt)) and not any(isinstance(part, str) for part in prompt)


def other(
    request: dict[str, Any], query: str | None, answered: ParsedResponse, response: dict[str, Any]
) -> Conversation:
    """JSON of no known shape: messages as chat has them, else a query; choices as chat has them, else a text."""
    messages = isinstance(request.get("messages"), list)
    if messages and mapping(next(iter(items(response.get("choices"))), None)).get("message"):
        return chat(request, response)
    choice = {"message": {"role": "assistant", "content": answered.text}}
    asked = request if messages else {"messages": [{"role": "user", "content": query}]}
    return chat(asked, {"choices": [choice]})
