"""The shapes of exchange that are told apart, in one table: metrics, GenAI names, store, training, pages, docs.

A new kind is a line at the end of `Kind`; its place there is its code on disk, so lines never move.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

__all__ = ["KINDS", "Kind", "Operation"]

Operation = Literal["chat", "text_completion", "generate_content", "embeddings"]
"""`gen_ai.operation.name` of OpenTelemetry's semantic conventions."""


class Kind(StrEnum):
    """The API shape of an exchange. The value is its name in metrics, filters and pages; the order is on disk."""

    meaning: str
    """What it stands for, in words."""
    operation: Operation | None
    """What OpenTelemetry calls it; None for what is no GenAI operation."""
    trainable: bool
    """Whether its answers are words of a model, from which another may learn."""

    def __new__(cls, value: str, meaning: str, operation: Operation | None, trainable: bool) -> Kind:
        """A member with its facts beside its name."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.operation, member.trainable = meaning, operation, trainable
        return member

    CHAT = "chat", "OpenAI chat completions", "chat", True
    COMPLETIONS = "completions", "OpenAI text completions, and fill-in-the-middle", "text_completion", True
    RESPONSES = "responses", "OpenAI Responses", "chat", True
    EMBEDDINGS = "embeddings", "Embeddings", "embeddings", False
    MESSAGES = "messages", "Anthropic Messages, also behind Bedrock and Vertex", "chat", True
    OLLAMA = "ollama", "Ollama", "chat", True
    KSERVE = "kserve", "KServe", None, True
    JSON = "json", "Other JSON", None, True
    OTHER = "other", "Anything else", None, False
    GEMINI = "gemini", "Gemini generateContent", "generate_content", True
    BEDROCK = "bedrock", "Bedrock Converse", "chat", True
    COHERE = "cohere", "Cohere chat", "chat", True
    TGI = "tgi", "text-generation-inference", "text_completion", True
    LLAMA_CPP = "llama.cpp", "llama.cpp completion", "text_completion", True
    SGLANG = "sglang", "SGLang generate", "text_completion", True
    DIFY = "dify", "Dify", "chat", True
    RERANK = "rerank", "Rerank", None, False
    MODERATIONS = "moderations", "Moderations", None, False
    TASK = "task", "A chat UI's own request, whatever its shape: a title, tags, follow-up questions", "chat", False


KINDS: Final = {kind.value: kind for kind in Kind}
"""By name; a record of a later version may have a kind that is not among them."""
