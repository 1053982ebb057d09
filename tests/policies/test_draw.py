"""Questions are drawn by chance: one a user, the same whenever it is drawn, and blind to how often somebody asks."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from policies.draw import Draw, Drawn

SALT = b"salt"
candidates = st.lists(
    st.tuples(st.integers(0, 30) | st.none(), st.integers(0, 5) | st.none()), min_size=0, max_size=120
)


def drawn(seen: list[tuple[str, int | None, int | None]], most: int = 20, salt: bytes = SALT) -> tuple[Drawn, ...]:
    draw = Draw(salt, most)
    for one in seen:
        draw.see(*one)
    return draw.drawn()


@given(candidates, st.integers(0, 40), st.randoms(use_true_random=False))
def test_the_order_in_which_records_are_seen_does_not_matter(
    units: list[tuple[int | None, int | None]], most: int, rng: random.Random
) -> None:
    seen = [(f"{at:032x}", user, conversation) for at, (user, conversation) in enumerate(units)]
    first = drawn(seen, most)
    rng.shuffle(seen)
    assert drawn(seen, most) == first
    assert len(first) <= most
    assert list(first) == sorted(first)


@given(candidates)
def test_a_user_is_asked_once(units: list[tuple[int | None, int | None]]) -> None:
    seen = {f"{at:032x}": unit for at, unit in enumerate(units)}
    found = [seen[one.record_id] for one in drawn([(name, *unit) for name, unit in seen.items()], 500)]
    users = [user for user, _ in found if user is not None]
    alone = [conversation for user, conversation in found if user is None and conversation is not None]
    assert len(users) == len(set(users)) == len({user for user, _ in units if user is not None})
    assert len(alone) == len(set(alone))


def test_fewer_are_the_first_of_more() -> None:
    seen = [(f"{at:032x}", at % 70, None) for at in range(500)]
    assert drawn(seen, 10) == drawn(seen, 60)[:10]


def test_who_asks_much_is_not_asked_sooner() -> None:
    """One user has half of the records: still one chance in a hundred of being the first."""
    seen = [(f"{at:032x}", at % 99 + 1, None) for at in range(300)] + [
        (f"{at:032x}", 0, None) for at in range(300, 600)
    ]
    firsts = [int(drawn(seen, 1, str(salt).encode())[0].record_id, 16) >= 300 for salt in range(300)]
    assert 0 <= sum(firsts) <= 10
