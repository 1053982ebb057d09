"""From what was logged to the conversation that it was.

What the library logged, or pointers found in JSON of no known shape, is a question and an answer, and stays these two
(thoughts that stand in the answer are told from it, as anywhere).
"""

from __future__ import annotations

from dataclasses import replace

from policies.conversation import Conversation, Lack
from policies.kinds import JSON
from policies.records import LoggedExchange, Sample
from proxy.wire.extract import CapturedExchange, converse, extract, logged
from proxy.wire.extract.conversations.thoughts import split_thoughts

__all__ = ["conversation_of", "provider_id_of", "read"]


def read(sample: Sample) -> Sample:
    """Give the sample its conversation. One that goes on from another which nobody has joined lacks its context."""
    said = sample.conversation
    if said is None:
        said = sample.conversation = conversation_of(sample)
    if sample.correction is not None and (spoken := split_thoughts(sample.correction)[1]) != sample.correction:
        sample = replace(sample, correction=spoken)  # people mend what they see, and some see the model's thoughts
    if said.goes_on_from is not None and said.lacks is None:
        said.lacks = Lack.CONTEXT_ELSEWHERE
    return sample


def conversation_of(sample: Sample) -> Conversation:
    """What was logged of the sample, as far as it stands in its own request and answer."""
    exchange = sample.exchange
    if exchange.cut or not exchange.request:
        said = logged(sample.query, sample.response)
        said.lacks = Lack.TRUNCATED if exchange.cut else None
        return said
    captured = _captured(exchange)
    if exchange.kind == JSON.name:
        found = extract(captured)
        if (found.query, found.response) != (sample.query, sample.response):
            return logged(sample.query, sample.response)  # pointers found them
    said = converse(captured)
    if said.turns or not said.answer.empty or said.lacks is not None or said.goes_on_from is not None:
        return said
    return logged(sample.query, sample.response)  # the copies are of no shape that is known, but the texts were


def provider_id_of(exchange: LoggedExchange) -> str | None:
    """The id that the provider gave to the answer."""
    return extract(_captured(exchange)).provider_id


def _captured(exchange: LoggedExchange) -> CapturedExchange:
    return CapturedExchange(
        target=exchange.target,
        request=exchange.request,
        response=exchange.response,
        request_type=exchange.request_type,
        response_type=exchange.response_type,
    )
