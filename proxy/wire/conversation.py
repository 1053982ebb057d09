"""From what was logged of a sample to the conversation that it was.

What the library logged, or pointers found in JSON of no known shape, is a question and an answer, and stays these two
(thoughts that stand in the answer are told from it, as anywhere).
"""

from __future__ import annotations

from policies.conversation import Conversation, Lack
from policies.kinds import JSON
from policies.records import LoggedExchange, Sample
from proxy.wire.extract import CapturedExchange, converse, extract, logged

__all__ = ["captured_of", "conversation_of"]


def conversation_of(sample: Sample) -> Conversation:
    """What was logged of the sample, as far as it stands in its own request and answer."""
    exchange = sample.exchange
    if exchange.cut or not exchange.request:
        said = logged(sample.query, sample.response)
        said.lacks = Lack.TRUNCATED if exchange.cut else None
        return said
    captured = captured_of(exchange)
    if exchange.kind == JSON.name:
        found = extract(captured)
        if (found.query, found.response) != (sample.query, sample.response):
            return logged(sample.query, sample.response)  # pointers found them
    said = converse(captured)
    if said.turns or not said.answer.empty or said.lacks is not None or said.goes_on_from is not None:
        return said
    return logged(sample.query, sample.response)  # the copies are of no shape that is known, but the texts were


def captured_of(exchange: LoggedExchange) -> CapturedExchange:
    """The exchange as readers of the wire take it."""
    return CapturedExchange(
        target=exchange.target,
        request=exchange.request,
        response=exchange.response,
        request_type=exchange.request_type,
        response_type=exchange.response_type,
    )
