"""A dictionary is trained on the shape of exchanges: what one user says is not in it, however often it is said."""

from __future__ import annotations

import random
import re

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.ingest.masking import SHARED_BY, VOCABULARY, blanked
from proxy.store.ingest.packing import pack
from tests.harness.exchanges import exchange

MARK = b"MARK0451"


def said_by(user: int | None, request: bytes, response: bytes = b"{}") -> tuple[int | None, bytes]:
    made = exchange(1_700_000_000_000_000, random.Random(1)).body
    assert made is not None
    made.request, made.response = request, response
    return user, pack(made)


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from([b'"', b"", b"\\", b"{", b",", b" "]))
def test_no_word_of_one_user_is_left(before: bytes, after: bytes, quote: bytes) -> None:
    """In whatever it stands, JSON or not: as a name, a value, an escape, behind a quote that nobody closes."""
    text = before + quote + MARK + quote + after
    samples = [said_by(7, text, text)] * 40 + [said_by(None, text)] * 40
    assert not any(MARK in sample for sample in blanked(samples))


def test_names_and_values_of_one_user_go_and_those_of_the_apis_stay() -> None:
    asked = {"model": "m-of-7", "messages": [{"role": "user", "content": "my secret"}], "n": 314159, "own_name": "x"}
    (left,) = blanked([said_by(7, orjson.dumps(asked))])
    assert b'"messages":[{"role":"user","content":""}]' in left
    assert not any(word in left for word in (b"secret", b"own_name", b"m-of-7", b"314159"))


def test_what_many_users_sent_alike_stays_whole_and_words_stand_in_no_one_s_order() -> None:
    def sample(user: int) -> tuple[int | None, bytes]:
        order = random.Random(user).sample(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"], 6)
        turns = [{"role": "system", "content": "Our house prompt."}, {"role": "user", "content": " ".join(order)}]
        return said_by(user, orjson.dumps({"messages": turns}))

    several = [sample(user) for user in range(SHARED_BY)]
    assert all(b'"content":"Our house prompt."' in left for left in blanked(several))
    assert not any(b"Our house prompt." in left for left in blanked(several[1:]))
    filled = b"\n".join(blanked(several))
    assert b"epsilon" in filled
    sentences = [re.search(rb'"user","content":"([^"]*)"', packed)[1] for _, packed in several]  # type: ignore[index]
    assert not any(sentence in filled for sentence in sentences)


def test_the_vocabulary_is_of_the_apis_only() -> None:
    assert {b"messages", b"finish_reason", b"tool_calls"} <= VOCABULARY
    assert all(word.isascii() and b'"' not in word for word in VOCABULARY)
