"""How the answer of an exchange behaves (`policies.behaviour`), from what was understood of it.

Languages are compared in one of LANGUAGE_EVERY records of experiments, for that costs more than all the rest of
understanding one: which, says the record's id, which was drawn before the answer was there and is blind to the arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from policies.behaviour import Behaviour, of_defects
from policies.language import language
from proxy.wire.extract import Extraction
from proxy.wire.extract.conversations.calltext import offered
from proxy.wire.extract.values import mapping

__all__ = ["LANGUAGE_EVERY", "behaviour_of", "compares_languages"]

LANGUAGE_EVERY: Final = 16
_READ_CHARS: Final = 400
"""Of question and answer each: by then a language is plain."""
_CALL: Final = "<tool_call>"


def behaviour_of(found: Extraction, text: str, defects: Sequence[str], *, languages: bool) -> int:
    """The bits of an answer that came: `text` is what it says, `defects` what the format check found in it."""
    bits = of_defects(defects)
    if _CALL in text and _calls_unknown(found, text):
        bits |= Behaviour.MALFORMED.value
    if languages and found.query:
        asked = language(found.query[:_READ_CHARS])
        if asked is not None and (answered := language(text[:_READ_CHARS])) is not None:
            bits |= Behaviour.LANGUAGES.value | (Behaviour.OTHER_LANGUAGE.value if asked != answered else 0)
    return bits


def compares_languages(record_id: str) -> bool:
    """Whether this record is one of those; by the end of its id, which is random."""
    return int(record_id[-4:], 16) % LANGUAGE_EVERY == 0


def _calls_unknown(found: Extraction, text: str) -> bool:
    """Whether it calls a tool that was not offered; where none was read from the request, nobody knows."""
    names = offered(found.request_fields)
    if not names:
        return False
    for part in text.split(_CALL)[1:]:
        try:
            called = mapping(orjson.loads(part.partition("</tool_call>")[0])).get("name")
        except ValueError:
            continue  # a custom tool's input need not be JSON; what a server could not read is malformed already
        if isinstance(called, str) and called not in names:
            return True
    return False
