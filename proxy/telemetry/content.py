"""The words of a record, as the GenAI conventions write messages: only where `telemetry.otlp_content` asks for them.

What capture has withheld or redacted is not in the store, and so not here; a request that asked not to be trained on
keeps its words to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from policies.conversation import Attachment, Turn
from proxy.store.tables.values import RecordFlag, RecordView
from proxy.telemetry.facts import Value
from proxy.wire.extract import CapturedExchange, Extraction, converse, logged

__all__ = ["LONGEST", "content_of", "may_be_sent"]

LONGEST: Final = 262_144
"""Characters of one attribute; longer ones are left out, which an attribute says."""
_CUT: Final = RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE


def may_be_sent(view: RecordView) -> bool:
    """Whether the record's words may go anywhere: not where its request asked that nothing be learnt from it."""
    return RecordFlag.NO_TRAIN not in view.row.flags


def content_of(view: RecordView, captured: CapturedExchange, found: Extraction | None) -> Mapping[str, Value]:
    """Attributes with the words of a record; none where they may not be sent, or are not there."""
    if view.body is None or not may_be_sent(view):
        return {}
    said = logged(view.body.query or "", view.body.response_text or "") if view.row.flags & _CUT else converse(captured)
    if not said.turns and said.answer.empty:
        said = logged(view.body.query or "", view.body.response_text or "")
    finish = found.finish_reason if found is not None else None
    spoken: dict[str, Any] = {
        "gen_ai.system_instructions": [part for turn in said.turns if turn.role == "system" for part in _parts(turn)],
        "gen_ai.input.messages": [_message(turn) for turn in said.turns if turn.role != "system"],
        "gen_ai.output.messages": [] if said.answer.empty else [_message(said.answer) | _ended(finish)],
        "gen_ai.tool.definitions": [dict(tool) for tool in said.tools],
    }
    written = {name: orjson.dumps(parts, default=str).decode() for name, parts in spoken.items() if parts}
    fitting: dict[str, Value] = {name: text for name, text in written.items() if len(text) <= LONGEST}
    if left_out := sorted(written.keys() - fitting.keys()):
        fitting["ratchet.content.left_out"] = left_out
    return fitting


def _ended(finish: str | None) -> dict[str, str]:
    return {"finish_reason": finish or "stop"}


def _message(turn: Turn) -> dict[str, Any]:
    if turn.role == "tool":
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": turn.call_id, "response": turn.text}]}
    return {"role": turn.role, "parts": _parts(turn)}


def _parts(turn: Turn) -> list[dict[str, Any]]:
    pieces = (turn.content,) if isinstance(turn.content, str) else turn.content
    thought = [{"type": "reasoning", "content": turn.reasoning}] if turn.reasoning else []
    calls = [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments} for call in turn.calls
    ]
    return [*thought, *(_piece(piece) for piece in pieces if piece != ""), *calls]


def _piece(piece: str | Attachment) -> dict[str, Any]:
    """A text as it is; of anything else only what it was, for its data would fill the span."""
    return (
        {"type": "text", "content": piece}
        if isinstance(piece, str)
        else {"type": piece.medium, "modality": piece.medium}
    )
