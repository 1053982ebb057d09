"""From what was logged to the conversation that it was."""

from __future__ import annotations

from dataclasses import replace

from policies.conversation import Conversation, Lack, Turn
from policies.records import Sample
from proxy.wire.extract import CapturedExchange, extract

__all__ = ["read"]


def read(sample: Sample) -> Sample:
    """The sample with its conversation; one that was logged as a question and an answer is these two."""
    exchange = sample.exchange
    if sample.conversation is not None or not exchange.request:
        return sample
    found = extract(
        CapturedExchange(
            target=exchange.target,
            request=exchange.request,
            response=exchange.response,
            request_type=exchange.request_type,
            response_type=exchange.response_type,
        )
    )
    turns = tuple(
        Turn(role=_ROLES.get(message["role"], "user"), content=message["content"])  # type: ignore[arg-type]
        for message in found.messages
    )
    said = Conversation(
        turns=turns or (Turn(role="user", content=sample.query),),
        answer=Turn(role="assistant", content=sample.response),
        lacks=Lack.TRUNCATED if exchange.cut else None,
    )
    return replace(sample, conversation=said)


_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
