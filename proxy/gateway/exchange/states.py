"""The states of an exchange, the events that it hears, and which of them may come when.

    NEW --> AWAITING_BODY --> CONNECTING --> SENDING --> AWAITING_ANSWER --> RELAYING --> DONE
     |                          ^  |  ^         |               |    `--> TUNNEL -------->  ^
     |                          |  |  `- again: a stale connection,                         |
     |                          |  |     or the champion for the challenger                 |
     `--------------------------'  `--------------- whatever ends it -----------------------'

A state is what the exchange waits for. The body of the request comes independently of that: it may still arrive while
a connection is being made, and behind an early answer. So `RequestBuffer.done` says whether it is whole, and only
SENDING, AWAITING_ANSWER tell the two apart, since only then something depends on it.

TRANSITIONS is the contract of whoever calls an exchange, and what the tests hold every event against: an event that is
not in it for a state cannot come there. Should it come all the same, then `ImpossibleEventError` says so, and the
connection that made the call is closed; behind the end every event is ignored, for the news may be under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

__all__ = ["ASKED", "TAKES_BODY", "TRANSITIONS", "Event", "ImpossibleEventError", "State"]


class State(Enum):
    """What an exchange waits for."""

    NEW = "new"
    """Nothing yet: `begin` comes next."""
    AWAITING_BODY = "awaiting_body"
    """More of the request's body, which must say whose it is or which model it names."""
    CONNECTING = "connecting"
    """A connection to the model's server."""
    SENDING = "sending"
    """The rest of the request's body, which is sent on as it comes; or an answer without it."""
    AWAITING_ANSWER = "awaiting_answer"
    """The head of the answer: all of the request was sent."""
    RELAYING = "relaying"
    """The rest of the answer, of which the head is here."""
    TUNNEL = "tunnel"
    """The end of a connection that no longer speaks HTTP."""
    DONE = "done"
    """Nothing: the record is written."""


class Event(Enum):
    """What an exchange is told; the values are the names of its methods."""

    BEGIN = "begin"
    RECEIVE = "receive"
    CLIENT_BLOCKED = "client_blocked"
    CLIENT_LOST = "client_lost"
    CONNECTED = "connected"
    CONNECT_FAILED = "connect_failed"
    UPSTREAM_BLOCKED = "upstream_blocked"
    INFORMATIONAL = "informational"
    RESPONDED = "responded"
    RELAY = "relay"
    SWITCHED = "switched"
    UPSTREAM_LOST = "upstream_lost"
    UPSTREAM_TIMED_OUT = "upstream_timed_out"
    TUNNEL_ENDED = "tunnel_ended"


class ImpossibleEventError(RuntimeError):
    """An event that cannot come in this state: a defect in whoever called. Its connection is closed."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.value} cannot come while an exchange is {state.value}")
        self.state = state
        self.event = event


_NEW: Final = State.NEW
_AWAITING_BODY: Final = State.AWAITING_BODY
_CONNECTING: Final = State.CONNECTING
_SENDING: Final = State.SENDING
_AWAITING_ANSWER: Final = State.AWAITING_ANSWER
_RELAYING: Final = State.RELAYING
_TUNNEL: Final = State.TUNNEL
_DONE: Final = State.DONE

TAKES_BODY: Final = (_AWAITING_BODY, _CONNECTING, _SENDING, _RELAYING)
"""Where more of the request's body may come. Tuples: `in` compares by identity, a set would hash an enum slowly."""
ASKED: Final = (_AWAITING_ANSWER, _SENDING)
"""Where the model's server has (some of) the request, and the client nothing of an answer."""

_FORWARDED: Final = frozenset((_CONNECTING, _SENDING, _AWAITING_ANSWER))
"""Where an exchange is after `_forward`: a kept connection spares CONNECTING, and a whole request SENDING."""
_ENDS: Final = frozenset((_DONE,))
_GOES_ON: Final = _FORWARDED | _ENDS
"""Asked again, or given up."""


def _stays(state: State) -> frozenset[State]:
    return frozenset((state,))


_OF_CLIENT: Final[Mapping[State, Mapping[Event, frozenset[State]]]] = {
    state: {Event.CLIENT_BLOCKED: _stays(state), Event.CLIENT_LOST: _ENDS}
    for state in (_NEW, _AWAITING_BODY, _CONNECTING, _SENDING, _AWAITING_ANSWER, _RELAYING)
}
_FAILS: Final = {Event.UPSTREAM_LOST: _GOES_ON, Event.UPSTREAM_TIMED_OUT: _GOES_ON}

TRANSITIONS: Final[Mapping[State, Mapping[Event, frozenset[State]]]] = {
    _NEW: {
        **_OF_CLIENT[_NEW],
        Event.BEGIN: _GOES_ON | {_AWAITING_BODY},
    },
    _AWAITING_BODY: {
        **_OF_CLIENT[_AWAITING_BODY],
        Event.RECEIVE: _FORWARDED | {_AWAITING_BODY},
    },
    _CONNECTING: {
        **_OF_CLIENT[_CONNECTING],
        Event.RECEIVE: _stays(_CONNECTING),
        Event.CONNECTED: frozenset(ASKED),
        Event.CONNECT_FAILED: _GOES_ON,
    },
    _SENDING: {
        **_OF_CLIENT[_SENDING],
        **_FAILS,
        Event.RECEIVE: frozenset(ASKED),
        Event.UPSTREAM_BLOCKED: _stays(_SENDING),
        Event.INFORMATIONAL: _stays(_SENDING),
        Event.RESPONDED: _FORWARDED | {_RELAYING},
        Event.SWITCHED: _stays(_SENDING),  # refused: BadResponseError
    },
    _AWAITING_ANSWER: {
        **_OF_CLIENT[_AWAITING_ANSWER],
        **_FAILS,
        Event.UPSTREAM_BLOCKED: _stays(_AWAITING_ANSWER),
        Event.INFORMATIONAL: _stays(_AWAITING_ANSWER),
        Event.RESPONDED: _FORWARDED | {_RELAYING},
        Event.SWITCHED: frozenset((_AWAITING_ANSWER, _TUNNEL)),
    },
    _RELAYING: {
        **_OF_CLIENT[_RELAYING],
        Event.RECEIVE: _stays(_RELAYING),
        Event.UPSTREAM_BLOCKED: _stays(_RELAYING),
        Event.RELAY: frozenset((_RELAYING, _DONE)),
        Event.UPSTREAM_LOST: _ENDS,
        Event.UPSTREAM_TIMED_OUT: _ENDS,
    },
    _TUNNEL: {Event.TUNNEL_ENDED: _ENDS},  # whichever side has left
    _DONE: dict.fromkeys(Event, _ENDS),
}
"""Where an exchange may be after an event, for every event that may come in a state."""
