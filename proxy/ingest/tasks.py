"""Chat UIs ask for themselves, too: for a title, tags, follow-up questions, a search query. Nobody reads those answers
as an answer, and nobody votes on them, so they must neither teach nor decide.

Proof is what the UI says itself, in a header or in the body's metadata, and the name of a model that is asked for
nothing else. A known template is a hint only: it counts where it is all that a person is said to have written, in a
request that is not streamed, which is how the UIs ask; the templates and the switch are `capture.task_patterns`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from proxy.config.serving import TASK_PATTERNS, CaptureConfig
from proxy.patterns import finder
from proxy.wire.extract.values import items, mapping, text

__all__ = ["Tasks"]

Matcher = Callable[[str], object]

_NAMES: Final = frozenset((
    "title_generation", "follow_up_generation", "tags_generation", "emoji_generation", "query_generation",
    "image_prompt_generation", "autocomplete_generation", "function_calling", "moa_response_generation",
))  # fmt: skip
"""Open WebUI's tasks: what `metadata.task` must say, for other applications call their users' wishes tasks."""
_ANCHOR: Final = r"\A\s*"
_UNFILLED: Final = re.compile(r"\s*(?:\{\{.*\}\})?\s*")
_HEAD_CHARS: Final = 8192
_TAIL_CHARS: Final = 2048
"""What of a long text is looked at: templates name themselves at one of its ends."""
_LOOKED_AT: Final = _HEAD_CHARS + _TAIL_CHARS
_INSTRUCTIONS: Final = ("system", "developer")
_TITLE: Final = frozenset(("title",))
_TITLE_AND_LANGUAGE: Final = frozenset(("title", "language"))
_ABOUT_A_CHAT: Final = re.compile(r"(?i)\b(?:conversation|chat)\b")


class Tasks:
    """Tells a UI's own requests from those of its users. Stateless between calls."""

    def __init__(self, capture: CaptureConfig) -> None:
        """Raises ValueError for a pattern that is no regular expression, or none that linear time is enough for."""
        self._headers = tuple(name.lower() for name in capture.task_headers)
        self._models = frozenset(capture.task_models)
        self._patterns = tuple(_matchers(capture.task_patterns))

    def includes(
        self,
        headers: Mapping[str, str],
        asked: Mapping[str, Any],
        messages: Sequence[Mapping[str, str]],
        *,
        query: str | None,
        model: str | None,
        streamed: bool,
    ) -> bool:
        """Whether a request is a UI's own.

        `headers` have lower-case names; `asked` is the body's JSON object, empty where there is none to read; `model`
        is what the path or the answer names, for a body that names none.
        """
        for name in self._headers:
            if (value := headers.get(name)) and not _UNFILLED.fullmatch(value):
                return True
        if self._models and (text(asked.get("model")) or model) in self._models:
            return True
        if "metadata" in asked and _named(mapping(asked["metadata"])):
            return True
        if streamed or not self._patterns or asked.get("stream") is True:
            return False
        texts = _only_texts(messages, query)
        for said in texts:
            looked_at = said if len(said) <= _LOOKED_AT else f"{said[:_HEAD_CHARS]}\n{said[-_TAIL_CHARS:]}"
            for matches in self._patterns:
                if matches(looked_at):
                    return True
        shaped = "tools" in asked or "response_format" in asked or "functions" in asked
        return shaped and _asks_for_a_title(asked, texts)


def _matchers(patterns: Iterable[str]) -> Iterator[Matcher]:
    """Our own, all anchored at the first word and of linear time, as one that is tried there alone: nearly every record
    fails at its first letter. Each of the others by itself, anywhere, on the engine that is linear by construction."""
    ours = []
    for pattern in patterns:
        if pattern in TASK_PATTERNS:
            ours.append(pattern.removeprefix(_ANCHOR))
            continue
        try:
            yield finder(pattern)
        except ValueError as exc:
            raise ValueError(f"capture.task_patterns: {pattern!r} {exc}") from exc
    if ours:
        yield re.compile(rf"\s*(?:{'|'.join(ours)})").match


def _named(metadata: Mapping[str, Any]) -> bool:
    return any(text(metadata.get(name)) in _NAMES for name in ("task", "task_name"))


def _only_texts(messages: Sequence[Mapping[str, str]], query: str | None) -> tuple[str, ...]:
    """What the only user message says, and the instructions before it; nothing where more was said."""
    count = len(messages)
    if count == 2 and messages[1]["role"] == "user" and messages[0]["role"] in _INSTRUCTIONS:
        return messages[0]["content"], messages[1]["content"]
    if count == 1 and messages[0]["role"] == "user":
        return (messages[0]["content"],)
    return () if count or not query else (query,)


def _asks_for_a_title(asked: Mapping[str, Any], texts: Sequence[str]) -> bool:
    """LibreChat's structured titles: the only tool, or the answer's schema, has a title and its language and no more.

    A title alone is what many an application asks for; it has to be one of a conversation.
    """
    names = _answer_fields(asked) if texts else frozenset()
    return names == _TITLE_AND_LANGUAGE or (names == _TITLE and any(_ABOUT_A_CHAT.search(said) for said in texts))


def _answer_fields(asked: Mapping[str, Any]) -> frozenset[str]:
    """Names of the fields that the answer has to have; none where the request leaves that open."""
    tools = items(asked.get("tools")) or items(asked.get("functions"))
    if len(tools) == 1:
        tool = mapping(tools[0])
        function = mapping(tool.get("function")) or tool
        schema = mapping(function.get("parameters")) or mapping(function.get("input_schema"))
    else:
        form = mapping(asked.get("response_format"))
        schema = mapping(mapping(form.get("json_schema")).get("schema"))
    return frozenset(mapping(schema.get("properties")))
