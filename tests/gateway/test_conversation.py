"""One request as a conversation, without a transport: what comes in, what goes out, in which order. See playbook.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies.records import Outcome
from proxy.gateway.exchange.states import TRANSITIONS, Event, ImpossibleEventError, State
from proxy.gateway.facts import ExchangeFacts
from proxy.gateway.head import parse_response
from proxy.gateway.head_cache import KnownResponse
from proxy.gateway.ports import Receiver
from proxy.gateway.record import frame_of
from proxy.spool.frames import decode_payload
from tests.gateway.playbook import CHALLENGER, CHAMPION, NoteUpstream, Talk
from tests.harness.gateway import config

GET = b"GET /v1/models HTTP/1.1\r\nHost: x"
HEAD = b"HEAD /v1/models HTTP/1.1\r\nHost: x"
POST = b"POST /x HTTP/1.1\r\nHost: x\r\nx-ratchet-user: u\r\nContent-Length: 4"
NAMELESS = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"
ID = b"x-ratchet-record-id: record-id\r\n"
OK_OUT = OK + b"\r\n" + ID + b"\r\n"


def to_champion(head: bytes, host: bytes = b"127.0.0.1:8001") -> bytes:
    """The head as the champion gets it."""
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"x-ratchet-")]
    return b"\r\n".join(lines).replace(b"Host: x", b"Host: " + host) + b"\r\n\r\n"


def to_challenger(head: bytes) -> bytes:
    return to_champion(head, b"127.0.0.1:8002")


# -- what goes well


def test_a_request_and_its_answer() -> None:
    talk = Talk(POST)
    talk.begin(b"body")
    assert talk.out() == [("dial", CHAMPION)]
    talk.connect()
    assert talk.out() == [("send", CHAMPION, to_champion(POST) + b"body", True)]
    talk.head(OK)
    assert talk.out() == []
    talk.piece(b"an")
    talk.piece(b"sw", done=True)
    assert talk.out() == [
        ("write", OK_OUT + b"an"),
        ("record",),
        ("write", b"sw"),
        ("release", CHAMPION, True),
        ("done", True),
    ]
    talk.check_over()
    assert (talk.record().meta["st"], talk.record().meta["out"]) == (200, Outcome.OK)
    assert (bytes(talk.record().request), bytes(talk.record().response)) == (b"body", b"answ"[:2] + b"sw")


def test_a_kept_connection_spares_the_dialling() -> None:
    talk = Talk(GET)
    talk.keep()
    talk.begin()
    assert talk.out() == [("send", CHAMPION, to_champion(GET), True)]
    assert talk.state is State.AWAITING_ANSWER


def test_a_body_that_comes_in_pieces() -> None:
    talk = Talk(POST)
    talk.begin(b"b", done=False)
    talk.body(b"o")  # nobody takes it yet
    assert talk.out() == [("dial", CHAMPION), ("pause", True)]
    talk.connect()
    assert talk.out() == [("pause", False), ("send", CHAMPION, to_champion(POST) + b"bo", False)]
    talk.body(b"d")
    talk.body(b"y", done=True)
    assert talk.out() == [("send", CHAMPION, b"d", False), ("send", CHAMPION, b"y", True)]
    assert talk.state is State.AWAITING_ANSWER


def test_an_answer_before_the_request_is_whole() -> None:
    talk = Talk(POST)
    talk.keep()
    talk.begin(b"bo", done=False)
    talk.out()
    talk.head(OK)
    talk.piece(b"an")
    talk.body(b"dy", done=True)
    assert talk.out() == [("write", OK_OUT + b"an"), ("send", CHAMPION, b"dy", True)]
    talk.piece(b"sw", done=True)
    assert talk.out() == [("record",), ("write", b"sw"), ("release", CHAMPION, True), ("done", True)]
    talk.check_over()


def test_a_whole_answer_before_the_request_is_whole_gives_up_the_connection() -> None:
    talk = Talk(POST)
    talk.keep()
    talk.begin(b"bo", done=False)
    talk.head(OK)
    talk.out()
    talk.piece(b"answ", done=True)
    assert talk.out() == [("record",), ("write", OK_OUT + b"answ"), ("release", CHAMPION, False), ("done", True)]
    talk.check_over()


def test_the_body_says_who_asks_and_is_waited_for() -> None:
    talk = Talk(NAMELESS + b"8\r\nExpect: 100-continue", challenger=True)
    talk.begin(b'{"user":', done=False)
    assert talk.out() == [("write", b"HTTP/1.1 100 Continue\r\n\r\n")]
    assert talk.state is State.AWAITING_BODY
    talk.body(b'"someone"' + b" " * 30 + b"}", done=True)
    assert talk.out() == [("dial", CHALLENGER)]


def test_100_continue_comes_from_the_model_where_nothing_is_waited_for() -> None:
    talk = Talk(POST + b"\r\nExpect: 100-continue")
    talk.keep()
    talk.begin(done=False)
    assert talk.out() == [("pause", False), ("send", CHAMPION, to_champion(POST + b"\r\nExpect: 100-continue"), False)]
    talk.head(b"HTTP/1.1 100 Continue")
    talk.head(b"HTTP/1.1 100 Continue")  # one is enough
    talk.body(b"body", done=True)
    assert talk.out() == [("write", b"HTTP/1.1 100 Continue\r\n\r\n"), ("send", CHAMPION, b"body", True)]


def test_early_hints_pass() -> None:
    talk = Talk(GET)
    talk.keep()
    talk.begin()
    talk.out()
    talk.head(b"HTTP/1.1 103 Early Hints\r\nLink: </a>")
    assert talk.out() == [("write", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")]
    assert talk.state is State.AWAITING_ANSWER


@pytest.mark.parametrize(
    ("request_head", "answer"),
    [(HEAD, OK), (GET, b"HTTP/1.1 204 No Content"), (GET, b"HTTP/1.1 304 Not Modified\r\nETag: 1")],
)
def test_answers_without_a_body(request_head: bytes, answer: bytes) -> None:
    talk = Talk(request_head)
    talk.keep()
    talk.begin()
    talk.head(answer)
    talk.out()
    talk.piece(b"", done=True)
    whole = answer + b"\r\n" + ID + b"\r\n"
    assert talk.out() == [("record",), ("write", whole), ("release", CHAMPION, True), ("done", True)]
    talk.check_over()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("version", "head", "body", "keep"),
    [
        (b"1", CHUNKED + b"\r\n" + ID, b"2\r\nhi\r\n0\r\n\r\n", True),
        (b"0", b"HTTP/1.1 200 OK\r\n" + ID + b"Connection: close\r\n", b"hi", False),
    ],
)
def test_chunks_pass_as_they_are_but_for_those_who_know_none(
    version: bytes, head: bytes, body: bytes, keep: bool
) -> None:
    talk = Talk(GET.replace(b"HTTP/1.1", b"HTTP/1." + version) + b"\r\nConnection: keep-alive")
    talk.keep()
    talk.begin()
    talk.head(CHUNKED)
    talk.out()
    talk.piece(b"2\r\nhi\r\n", b"hi")
    talk.piece(b"0\r\n\r\n", b"", done=True)
    end = body[7:] if version == b"1" else b""
    assert talk.out() == [
        ("write", head + b"\r\n" + body.removesuffix(end)),
        ("record",),
        ("write", end),
        ("release", CHAMPION, True),
        ("done", keep),
    ]
    assert bytes(talk.record().response) == b"hi"
    talk.check_over()


def test_what_ends_with_its_connection_ends_the_clients() -> None:
    talk = Talk(GET)
    talk.keep()
    talk.begin()
    talk.head(b"HTTP/1.1 200 OK")
    talk.piece(b"all")
    talk.out()
    talk.piece(b"", done=True)
    assert talk.out() == [("record",), ("write", b""), ("release", CHAMPION, True), ("done", False)]
    assert talk.client.written.endswith(b"Connection: close\r\n\r\nall")


def test_101_makes_a_tunnel() -> None:
    talk = Talk(UPGRADE)
    talk.keep()
    talk.begin()
    talk.out()
    talk.head(SWITCH)
    (written, tunnel) = talk.out()
    assert written[1].startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert tunnel == ("tunnel", CHAMPION, b"")
    assert talk.counts["tunnels"] == 1
    talk.tunnel_ends()
    talk.check_over()
    assert (talk.record().meta["rb"], talk.record().meta["sb"], talk.record().meta["st"]) == (10, 20, 101)


def test_101_that_nobody_asked_for_is_no_answer() -> None:
    talk = Talk(GET)
    talk.keep()
    talk.begin()
    talk.out()
    talk.head(SWITCH)
    assert [what for what, *_ in talk.out()] == ["record", "write", "release", "done"]
    assert talk.client.written.startswith(b"HTTP/1.1 502 ")
    talk.check_over()


def test_the_facts_of_a_record_stand_under_their_own_names() -> None:
    """They are made and read by place: no two of these values are alike."""
    talk = Talk(POST, settings=config(capture={"max_request_bytes": 3}))
    talk.clock.advance(1.0)
    talk.begin(b"bo", done=False)
    talk.clock.advance(2.0)
    talk.body(b"dy", done=True)
    talk.connect()
    talk.clock.advance(4.0)
    talk.head(OK)
    talk.piece(b"a")
    talk.clock.advance(8.0)
    talk.piece(b"ns")
    exchange = talk.exchange
    exchange.fallback, exchange.refusal, exchange.resent, exchange.held_s = "status", 404, True, 3.0
    talk.clock.advance(16.0)
    facts = exchange._facts(Outcome.TIMEOUT, talk.clock.monotonic())
    own = {name: getattr(exchange, name) for name in ExchangeFacts._fields if hasattr(exchange, name)}
    own |= {"key": exchange.user(), "conversation": None, "outcome": Outcome.TIMEOUT, "network": talk.client.network}
    own |= {"heard_at": 15.0, "ended": 31.0}
    assert facts._asdict() == own
    data = frame_of(facts, talk.context)
    assert data is not None
    meta = decode_payload(data).meta
    said = {
        name: meta[name] for name in ("t", "dur", "ttfb", "up", "own", "st", "out", "rb", "sb", "fb", "cs", "rs", "mk")
    }
    assert said == {
        "t": int(exchange.arrived_at * 1e6),
        "dur": 31_000_000,
        "ttfb": 7_000_000,
        "up": 9_000_000,  # from the end of the request to the last that was heard, without what the client took
        "own": 16_000_000,
        "st": 200,
        "out": Outcome.TIMEOUT,
        "rb": 4,
        "sb": 3,
        "fb": "status",
        "cs": 404,
        "rs": True,
        "mk": [[1, 15_000_000]],
    }
    assert set(meta) >= {"id", "m", "p", "arm", "srv", "mid", "key", "src", "rsha", "cl"}


# -- a stale connection


def test_a_stale_connection_is_no_failure() -> None:
    talk = Talk(GET)
    talk.keep()
    talk.begin()
    talk.out()
    talk.lost()
    assert talk.out() == [("release", CHAMPION, False), ("dial", CHAMPION)]
    talk.connect()
    assert talk.out() == [("send", CHAMPION, to_champion(GET), True)]
    talk.lost()  # a fresh one is not stale
    assert talk.client.written.startswith(b"HTTP/1.1 502 ")
    assert talk.counts["stale_retries_total"] == 1
    assert talk.record().meta["rs"] is True
    talk.check_over()


@pytest.mark.parametrize(
    ("head", "after_s", "again"),
    [
        (POST, 0.0, True),  # the server cannot have read it
        (POST, 0.05, False),  # it may have died of it
        (POST + b"\r\nIdempotency-Key: 1", 5.0, True),
        (POST.replace(b"POST", b"PUT"), 5.0, True),
    ],
)
def test_what_may_have_been_read_is_sent_again_only_where_that_changes_nothing(
    head: bytes, after_s: float, again: bool
) -> None:
    talk = Talk(head)
    talk.keep()
    talk.begin(b"body")
    talk.out()
    talk.clock.advance(after_s)
    talk.lost()
    assert (("dial", CHAMPION) in talk.out()) is again
    assert (talk.state is State.CONNECTING) is again


def test_a_body_that_is_no_longer_whole_is_not_sent_again() -> None:
    talk = Talk(POST.replace(b"Length: 4", b"Length: 400"), settings=config(capture={"max_request_bytes": 10}))
    talk.keep()
    talk.begin(b"b" * 400)
    talk.lost()
    assert talk.client.written.startswith(b"HTTP/1.1 502 ")
    talk.check_over()


# -- a challenger that fails


def fails_to_connect(talk: Talk) -> None:
    talk.begin(b"body")
    talk.refuse()


def says_503(talk: Talk) -> None:
    talk.begin(b"body")
    talk.connect()
    talk.head(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4")


def is_silent(talk: Talk) -> None:
    talk.begin(b"body")
    talk.connect()
    talk.time_out()


def breaks_off(talk: Talk) -> None:
    talk.begin(b"body")
    talk.connect()
    talk.lost(ConnectionResetError())


def is_spared(talk: Talk) -> None:
    for _ in range(10):
        talk.breaker.failure(talk.clock.monotonic())
    talk.context.router.breaker_changed()
    talk.begin(b"body")


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (fails_to_connect, "connect"),
        (breaks_off, "connect"),
        (says_503, "status"),
        (is_silent, "timeout"),
        (is_spared, "breaker"),
    ],
)
def test_the_champion_answers_for_a_challenger_that_fails(failure: Callable[[Talk], None], cause: str) -> None:
    talk = Talk(POST, challenger=True)
    failure(talk)
    assert talk.out()[-1] == ("dial", CHAMPION)
    talk.connect()
    assert talk.out() == [("send", CHAMPION, to_champion(POST) + b"body", True)]
    talk.head(OK)
    talk.piece(b"answ", done=True)
    assert talk.client.written == OK_OUT + b"answ"
    assert talk.counts[f'fallbacks_total{{cause="{cause}"}}'] == 1
    meta = talk.record().meta
    assert (meta["fb"], meta["arm"], meta["srv"]) == (cause, 1, 0)
    talk.check_over()


def test_a_refusal_is_the_champions_to_judge() -> None:
    talk = Talk(POST, challenger=True)
    talk.begin(b"body")
    talk.connect()
    talk.head(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4")
    assert talk.out()[-2:] == [("release", CHALLENGER, False), ("dial", CHAMPION)]
    talk.connect()
    talk.head(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4")
    talk.piece(b"none", done=True)
    assert talk.counts['fallbacks_total{cause="both_refused"}'] == 1
    assert (talk.record().meta["cs"], talk.record().meta["fb"]) == (404, None)
    talk.check_over()


def test_both_fail() -> None:
    talk = Talk(POST, challenger=True)
    fails_to_connect(talk)
    talk.refuse()
    assert talk.client.written.startswith(b"HTTP/1.1 502 ")
    talk.check_over()


def test_a_body_that_is_gone_cannot_go_to_the_champion() -> None:
    settings = config(capture={"max_request_bytes": 10})
    talk = Talk(POST.replace(b"Length: 4", b"Length: 400"), challenger=True, settings=settings)
    talk.context.budget.left = 0
    talk.begin(b"b" * 400)
    talk.refuse()
    assert talk.counts['fallbacks_impossible_total{cause="connect"}'] == 1
    assert talk.client.written.startswith(b"HTTP/1.1 502 ")


# -- slow readers


def test_a_client_that_is_slow_to_read_holds_the_answer() -> None:
    talk = Talk(GET)
    talk.keep()
    talk.begin()
    talk.head(OK)
    talk.piece(b"an")
    talk.out()
    talk.tell(Event.CLIENT_BLOCKED, True)
    talk.clock.advance(3.0)
    talk.tell(Event.CLIENT_BLOCKED, False)
    assert talk.out() == [("hold", CHAMPION, True), ("hold", CHAMPION, False)]
    talk.piece(b"sw", done=True)
    assert talk.record().meta["up"] == 0  # the model has not been waited for
    assert talk.record().meta["dur"] == 3_000_000


def test_a_model_that_is_slow_to_read_holds_the_request() -> None:
    talk = Talk(POST)
    talk.keep()
    talk.begin(b"bo", done=False)
    talk.out()
    talk.tell(Event.UPSTREAM_BLOCKED, True)
    talk.tell(Event.UPSTREAM_BLOCKED, False)
    assert talk.out() == [("pause", True), ("pause", False)]


# -- every state


def to_new(talk: Talk) -> None:
    """As it is made."""


def to_awaiting_body(talk: Talk) -> None:
    talk.begin(b"{", done=False)


def to_connecting(talk: Talk) -> None:
    talk.begin(b"bo", done=False)


def to_sending(talk: Talk) -> None:
    talk.begin(b"bo", done=False)
    talk.connect()


def to_awaiting_answer(talk: Talk) -> None:
    talk.begin(b"body")
    talk.connect()


def to_relaying(talk: Talk) -> None:
    to_sending(talk)  # an early answer: so more of the request may come
    talk.head(OK)
    talk.piece(b"an")


def to_tunnel(talk: Talk) -> None:
    talk.begin()
    talk.connect()
    talk.head(SWITCH)


def to_done(talk: Talk) -> None:
    to_relaying(talk)
    talk.piece(b"sw", done=True)


WAYS: dict[State, tuple[bytes, Callable[[Talk], None]]] = {
    State.NEW: (POST, to_new),
    State.AWAITING_BODY: (NAMELESS, to_awaiting_body),
    State.CONNECTING: (POST, to_connecting),
    State.SENDING: (POST, to_sending),
    State.AWAITING_ANSWER: (POST, to_awaiting_answer),
    State.RELAYING: (POST, to_relaying),
    State.TUNNEL: (UPGRADE, to_tunnel),
    State.DONE: (POST, to_done),
}


def talk_in(state: State, *, challenger: bool = True) -> Talk:
    head, way = WAYS[state]
    talk = Talk(head, challenger=challenger)
    way(talk)
    assert talk.state is state
    talk.out()
    return talk


def news(talk: Talk, event: Event) -> tuple[Any, ...]:
    """Arguments of an event."""
    parsed = parse_response(OK + b"\r\n\r\n", len(OK), b"POST")
    return {
        Event.BEGIN: (b"body", True),
        Event.RECEIVE: (b"dy", True),
        Event.CLIENT_BLOCKED: (True,),
        Event.CLIENT_LOST: (),
        Event.CONNECTED: (NoteUpstream(talk.outputs, CHALLENGER),),
        Event.CONNECT_FAILED: (ConnectionRefusedError(),),
        Event.UPSTREAM_BLOCKED: (False,),
        Event.INFORMATIONAL: (parse_response(b"HTTP/1.1 103 X\r\n\r\n", 14, b"POST"),),
        Event.RESPONDED: (KnownResponse(parsed), 4),
        Event.RELAY: (b"sw", b"sw", True),
        Event.SWITCHED: (parse_response(SWITCH + b"\r\n\r\n", len(SWITCH), b"GET"), b""),
        Event.UPSTREAM_LOST: (None,),
        Event.UPSTREAM_TIMED_OUT: (),
        Event.TUNNEL_ENDED: (1, 2, None, True),
    }[event]


def test_the_table_names_every_state_and_every_call_of_a_receiver() -> None:
    assert set(TRANSITIONS) == set(State) == set(WAYS)
    calls = {name for name in vars(Receiver) if not name.startswith("_")}
    assert calls == {event.value for event in Event} & calls
    assert all(any(event in TRANSITIONS[state] for state in State if state is not State.DONE) for event in Event)


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state_is_handled_or_impossible(state: State, event: Event) -> None:
    talk = talk_in(state)
    if event in (Event.CONNECTED, Event.CONNECT_FAILED) and talk.dials:
        talk.dials[-1].over = True
    if event in (Event.UPSTREAM_LOST, Event.UPSTREAM_TIMED_OUT) and talk.upstreams:
        talk.upstream.over = talk.upstream.over or "lost"
    written = talk.client.written
    if event in TRANSITIONS[state]:
        talk.tell(event, *news(talk, event))
        if state is State.DONE:
            assert talk.client.written == written
            talk.check_over()
    else:
        with pytest.raises(ImpossibleEventError, match=f"{event.value} cannot come while"):
            getattr(talk.exchange, event.value)(*news(talk, event))
        assert (talk.state, talk.client.written, talk.records) == (state, written, [])


OPEN = [state for state in State if state not in (State.NEW, State.DONE)]
WITH_UPSTREAM = [State.SENDING, State.AWAITING_ANSWER, State.RELAYING]
ENDS_OF_UPSTREAM = {State.TUNNEL: ["detach"], **{state: ["release"] for state in WITH_UPSTREAM}}


@pytest.mark.parametrize("challenger", [False, True])
@pytest.mark.parametrize("status", [0, 408])
@pytest.mark.parametrize("state", OPEN)
def test_a_client_that_leaves_or_is_too_slow_leaves_nothing_behind(state: State, status: int, challenger: bool) -> None:
    if state is State.AWAITING_BODY and not challenger:
        return  # nothing to wait for
    talk = talk_in(state, challenger=challenger)
    if state is State.TUNNEL:  # in which time does not matter, and either end reports itself
        talk.tunnel_ends(ConnectionResetError(), by_client=True)
        status = 101
    else:
        talk.client_gone(status)
    talk.check_over(recorded=state is not State.AWAITING_BODY)
    assert [up.over for up in talk.upstreams] == ENDS_OF_UPSTREAM.get(state, [])
    if state is State.CONNECTING:
        assert talk.out() == [("record",), ("cancel", CHALLENGER if challenger else CHAMPION)]
    if talk.records:
        assert talk.record().meta["out"] == Outcome.CLIENT_DISCONNECT
        assert talk.record().meta["st"] == (200 if state is State.RELAYING else status)
    assert not challenger or talk.breaker.allow(talk.clock.monotonic())


def test_a_client_that_leaves_before_it_begins_was_never_here() -> None:
    talk = Talk(POST)
    talk.exchange.client_lost()
    assert (talk.state, talk.out()) == (State.DONE, [])


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (State.SENDING, Outcome.UPSTREAM_ERROR),
        (State.AWAITING_ANSWER, Outcome.UPSTREAM_ERROR),
        (State.RELAYING, Outcome.UPSTREAM_ERROR),
    ],
)
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_a_champion_that_leaves_leaves_nothing_behind(state: State, outcome: Outcome, error: Exception | None) -> None:
    talk = talk_in(state, challenger=False)
    talk.lost(error)
    talk.check_over()
    assert talk.record().meta["out"] == outcome
    assert talk.client.over == ("abort" if state is State.RELAYING else "done")


@pytest.mark.parametrize("state", WITH_UPSTREAM)
def test_a_champion_that_is_silent_leaves_nothing_behind(state: State) -> None:
    talk = talk_in(state, challenger=False)
    talk.time_out()
    talk.check_over()
    assert talk.record().meta["out"] == Outcome.TIMEOUT
    assert talk.client.over == ("abort" if state is State.RELAYING else "done")
    if state is not State.RELAYING:
        assert talk.client.written.startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("by_client", [True, False])
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_the_end_of_a_tunnel_is_the_end(by_client: bool, error: Exception | None) -> None:
    talk = talk_in(State.TUNNEL)
    talk.tunnel_ends(error, by_client=by_client)
    talk.check_over()
    broken = Outcome.CLIENT_DISCONNECT if by_client else Outcome.UPSTREAM_ERROR
    assert talk.record().meta["out"] == (Outcome.OK if error is None else broken)


# -- any order of events

BODY = b'{"user":"u"}'
ANSWER = b"an answer"


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes when, as long as it may: see Talk.check, and the assertions of whoever takes notes."""

    @initialize(
        challenger=st.booleans(),
        kept=st.lists(st.sampled_from([CHAMPION, CHALLENGER]), max_size=3),
        head=st.sampled_from([POST, NAMELESS, POST + b"\r\nExpect: 100-continue", POST.replace(b"POST", b"PUT")]),
        limit=st.sampled_from([5, 100]),
    )
    def start(self, challenger: bool, kept: list[str], head: bytes, limit: int) -> None:
        self.head = head.replace(b"Length: 4", b"Length: %d" % len(BODY))
        self.talk = Talk(self.head, challenger=challenger, settings=config(capture={"max_request_bytes": limit}))
        for arm in kept:
            if arm in self.talk.pools:
                self.talk.keep(arm)
        self.came = 0
        self.answer = b""
        self.blocked = False
        self.upstream_blocked = False

    def may(self, event: Event) -> bool:
        return self.talk.state is not State.DONE and event in TRANSITIONS[self.talk.state]

    def piece_of_body(self, size: int) -> tuple[bytes, bool]:
        piece = BODY[self.came : self.came + size]
        self.came += len(piece)
        return piece, self.came == len(BODY)

    @precondition(lambda self: self.may(Event.BEGIN))
    @rule(size=st.integers(0, len(BODY)))
    def begin(self, size: int) -> None:
        piece, done = self.piece_of_body(size)
        self.talk.begin(piece, done=done)

    @precondition(lambda self: self.may(Event.RECEIVE) and self.came < len(BODY))
    @rule(size=st.integers(1, len(BODY)))
    def receive(self, size: int) -> None:
        piece, done = self.piece_of_body(size)
        self.talk.body(piece, done=done)

    @precondition(lambda self: self.may(Event.CONNECTED))
    @rule()
    def connect(self) -> None:
        self.talk.connect()

    @precondition(lambda self: self.may(Event.CONNECT_FAILED))
    @rule()
    def refuse(self) -> None:
        self.talk.refuse()

    @precondition(lambda self: self.may(Event.RESPONDED))
    @rule(status=st.sampled_from([100, 103, 200, 200, 404, 418, 500, 503]))
    def respond(self, status: int) -> None:
        self.answer = b""
        self.talk.head(b"HTTP/1.1 %d X%b" % (status, b"\r\nContent-Length: 9" if status >= 200 else b""))

    @precondition(lambda self: self.may(Event.RELAY))
    @rule(size=st.integers(1, len(ANSWER)))
    def relay(self, size: int) -> None:
        piece = ANSWER[len(self.answer) : len(self.answer) + size]
        self.answer += piece
        self.talk.piece(piece, done=self.answer == ANSWER)
        assert self.talk.client.written.endswith(b"\r\n\r\n" + self.answer)

    @precondition(lambda self: self.may(Event.UPSTREAM_LOST))
    @rule(error=st.sampled_from([None, ConnectionResetError()]), later_s=st.sampled_from([0.0, 0.05, 5.0]))
    def lose_upstream(self, error: Exception | None, later_s: float) -> None:
        self.talk.clock.advance(later_s)
        self.talk.lost(error)

    @precondition(lambda self: self.may(Event.UPSTREAM_TIMED_OUT))
    @rule()
    def time_out(self) -> None:
        self.talk.time_out()

    @precondition(lambda self: self.may(Event.UPSTREAM_BLOCKED))
    @rule()
    def block_upstream(self) -> None:
        self.upstream_blocked = not self.upstream_blocked
        self.talk.tell(Event.UPSTREAM_BLOCKED, self.upstream_blocked)

    @precondition(lambda self: self.may(Event.CLIENT_BLOCKED))
    @rule()
    def block_client(self) -> None:
        self.blocked = not self.blocked
        self.talk.tell(Event.CLIENT_BLOCKED, self.blocked)

    @precondition(lambda self: self.may(Event.CLIENT_LOST) and self.talk.state is not State.NEW)
    @rule(status=st.sampled_from([0, 408]))
    def lose_client(self, status: int) -> None:
        self.talk.client_gone(status)

    @precondition(lambda self: self.talk.state is State.DONE)
    @rule(event=st.sampled_from(Event))
    def come_late(self, event: Event) -> None:
        written, records = self.talk.client.written, len(self.talk.records)
        getattr(self.talk.exchange, event.value)(*news(self.talk, event))
        assert (self.talk.client.written, len(self.talk.records)) == (written, records)

    @invariant()
    def nothing_is_there_twice(self) -> None:
        self.talk.check()
        if self.talk.state is State.DONE:
            unsent = self.talk.exchange.handed_over is None
            self.talk.check_over(recorded=not unsent)

    @invariant()
    def every_model_got_the_clients_bytes(self) -> None:
        for upstream in self.talk.upstreams:
            head, _, body = upstream.sent.partition(b"\r\n\r\n")
            assert head.startswith(self.head.partition(b"\r\n")[0])
            assert body == BODY[: len(body)]
            assert (body == BODY) is upstream.last


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=80, stateful_step_count=20, deadline=None)
TestAnyOrder = AnyOrder.TestCase
