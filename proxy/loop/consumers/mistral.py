"""Mistral: what `mistral_common` lets pass for fine-tuning, in the version of one of its tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from proxy.loop.consumers.lines import (
    dialogue,
    form_of,
    formats_for,
    message_problems,
    tools_of,
    tools_problems,
)
from proxy.loop.consumers.report import Report

__all__ = ["Mistral"]

_TOKENIZER: Final = "v13"
_KEYS: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "weight"})


class Mistral:
    """Files with `messages`; each line is made a request and given to Mistral's validator."""

    name = "mistral"
    takes = formats_for("mistral")

    def __init__(self, tokenizer: str | None = None) -> None:
        """`tokenizer`: which version's rules (v3, v7, v11, v13, v15; up to v11 ids of calls have nine characters)."""
        self._version = tokenizer or _TOKENIZER
        try:
            self.checked_by = f"mistral-common {version('mistral-common')}, rules of tokenizer {self._version}"
        except PackageNotFoundError:
            self.checked_by = "the rules that all readers of conversations share"
            self._validator: Any = None
            self.notes: tuple[str, ...] = (
                "mistral-common is not installed: pip install 'ratchet-proxy[check]' asks it too.",
            )
            return
        from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
        from mistral_common.tokens.tokenizers.base import TokenizerVersion

        self._validator = get_validator(TokenizerVersion(self._version), ValidationMode.finetuning)
        self.notes = ()

    def problems(self, line: Mapping[str, Any]) -> Iterator[str]:
        """What Mistral would refuse about a line."""
        if form_of(line) not in self.takes:
            yield f"the line has no `messages`; write the format {' or '.join(self.takes)}"
            return
        tools = tools_of(line)
        for _, messages in dialogue(line):
            shared = [*tools_problems(tools), *message_problems(messages, tools)]
            yield from shared
            if not shared and self._validator is not None:
                yield from self._asked(messages, tools)

    def _asked(self, messages: list[Any], tools: list[Any]) -> Iterator[str]:
        from mistral_common.exceptions import MistralCommonException
        from mistral_common.protocol.instruct.request import ChatCompletionRequest
        from pydantic import ValidationError

        known = [{key: value for key, value in message.items() if key in _KEYS} for message in messages]
        try:
            request = ChatCompletionRequest.from_openai(known, tools or None)
            self._validator.validate_request(request)
        except MistralCommonException as error:
            yield f"Mistral's validator: {' '.join(str(error).split())}"
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            yield f"Mistral's request: {' '.join(str(error).split())[:200]}"

    def file_problems(self, report: Report, size: int) -> Iterator[str]:
        """Mistral's API takes files up to 512 MB."""
        if size > 512 * 1024 * 1024:
            yield f"{size:,} bytes are too many: Mistral takes files up to 512 MB"
