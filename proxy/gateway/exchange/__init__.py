"""One request, from its head to its record. Read the files in this order: it is the one in which things happen.

    exchange.py    begin, route: the head is here; whose request is it, which model serves it (waits for the body only
                   if the body must say)
    sending.py     forward: to that model, on a kept connection if there is one; once more on a fresh one if that was
                   stale; to the champion if the challenger fails
    relaying.py    relay: the answer, byte for byte, as it comes
    ending.py      end: append the record, then let the last byte go; or an answer of our own (502, 503, 504)
    base.py        what is known of a request while it is on its way
    states.py      what it waits for, and what may happen then

Each file is a part of one class, `Exchange`; a part calls only those below it in this list, except that news comes in
everywhere: from the client's connection (`begin`, `receive`, `client_blocked`, `client_lost`) and from the model's (see
`ports.Receiver`). What goes out are calls to `ports.ClientSide`, `ports.Pool` and `ports.UpstreamSide`. Nothing here
knows a socket or the event loop, and nothing waits: `tests/gateway/test_conversation.py` plays both sides.
"""

from proxy.gateway.exchange.exchange import Exchange

__all__ = ["Exchange"]
