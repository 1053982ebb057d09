"""From what was logged to the conversation that is taught (`proxy.wire.conversation`), with what people made of it."""

from __future__ import annotations

from dataclasses import replace

from policies.conversation import Lack
from policies.records import LoggedExchange, Sample
from proxy.wire.conversation import captured_of, conversation_of
from proxy.wire.extract import extract
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


def provider_id_of(exchange: LoggedExchange) -> str | None:
    """The id that the provider gave to the answer."""
    return extract(captured_of(exchange)).provider_id
