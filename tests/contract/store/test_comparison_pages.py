"""What a check compared, page by page, and what people prefer: on both databases."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig
from proxy.store.control.comparison_pages import ComparisonFilter, Show
from proxy.store.control.preferences import PreferenceCounts
from proxy.store.store import Store
from tests.harness.compared_answers import answer, compared_rows, comparison, seed_check, seed_rows
from tests.harness.exchanges import new_id


async def walked(store: Store, wanted: ComparisonFilter, limit: int) -> list[tuple[str, float | None]]:
    """All pages of a list, put together."""
    found, cursor = [], None
    while True:
        page = await store.comparison_pages.page(1, wanted, cursor=cursor, limit=limit)
        assert len(page.rows) <= limit
        found += [(row.item, row.outcome) for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            return found


async def test_pages_put_together_are_the_whole_list_in_its_order(store: Store) -> None:
    rows = compared_rows(1, 100, start_us=1_760_000_000_000_000)
    await seed_check(store, rows)
    await seed_rows(store, [replace(row, check_id=2) for row in rows[:7]])
    everything = sorted((row.item, row.outcome) for row in rows)
    worse = sorted((row.outcome, row.item) for row in rows if row.outcome is not None and row.outcome < 0)
    better = sorted((row.outcome, row.item) for row in rows if row.outcome is not None and row.outcome > 0)[::-1]
    for limit in (1, 7, 1000):
        assert sorted(await walked(store, ComparisonFilter(), limit)) == everything
        assert await walked(store, ComparisonFilter(show=Show.WORSE), limit) == [(item, x) for x, item in worse]
        assert await walked(store, ComparisonFilter(show=Show.BETTER), limit) == [(item, x) for x, item in better]
        tagged = await walked(store, ComparisonFilter(tag="opening hours"), limit)
        assert {item for item, _ in tagged} == {row.item for row in rows if "opening hours" in row.tags}
    counts = await store.comparison_pages.counts(1)
    assert (counts.compared, counts.worse, counts.better) == (len(rows), len(worse), len(better))


async def test_the_one_after_and_the_one_before_are_neighbours_in_the_list(store: Store) -> None:
    await seed_check(store, compared_rows(1, 40, start_us=1_760_000_000_000_000))
    for show in (Show.ALL, Show.WORSE, Show.BETTER):
        wanted = ComparisonFilter(show=show)
        rows = (await store.comparison_pages.page(1, wanted, limit=100)).rows
        for one, other in pairwise(rows):
            assert await store.comparison_pages.after(one, wanted) == other
            assert await store.comparison_pages.before(other, wanted) == one
        assert await store.comparison_pages.after(rows[-1], wanted) is None
        assert await store.comparison_pages.before(rows[0], wanted) is None


async def test_a_cursor_of_another_list_is_refused(store: Store) -> None:
    for cursor in ("0" * 32, "nan/x", "2.0/x", "/"):
        with pytest.raises(ValueError, match="cursor"):
            await store.comparison_pages.page(1, ComparisonFilter(show=Show.WORSE), cursor=cursor)


async def test_half_a_comparison_is_not_shown(store: Store) -> None:
    whole = comparison(1, "a" * 32, "Nails?", answer("Yes."), answer("No."))
    half = replace(whole, item="b" * 32, outcome=None, data={"challenger": {"raw": "No."}})
    last = replace(whole, item="c" * 32)
    await seed_check(store, [half, whole, last])
    assert [item for item, _ in await walked(store, ComparisonFilter(), 1)] == ["a" * 32, "c" * 32]
    first = await store.comparison_pages.first(1, ComparisonFilter())
    after = await store.comparison_pages.after(whole, ComparisonFilter())
    before = await store.comparison_pages.before(last, ComparisonFilter())
    assert [row and row.item for row in (first, after, before)] == ["a" * 32, "c" * 32, "a" * 32]
    assert await store.comparison_pages.before(whole, ComparisonFilter()) is None


async def test_a_choice_is_one_a_person_and_leaves_the_open_ones(store: Store) -> None:
    rows = [comparison(1, c * 32, "Nails?", answer("Yes."), answer("No."), outcome=x)
            for c, x in (("a", -1.0), ("b", 1.0), ("c", 0.0))]  # fmt: skip
    await seed_check(store, rows)
    chosen = store.preferences
    assert await chosen.put(1, "a" * 32, "ann", "champion")
    assert await chosen.put(1, "a" * 32, "ann", "challenger")
    assert await chosen.put(1, "b" * 32, "bob", "tie")
    assert not await chosen.put(1, "d" * 32, "ann", "tie")
    assert await chosen.of(1, ["a" * 32, "c" * 32]) == {"a" * 32: {"ann": "challenger"}}
    assert await chosen.counts(1, "ann") == PreferenceCounts(challenger=1, tie=1, mine=1)
    left = [item[0] for item, _ in await walked(store, ComparisonFilter(show=Show.OPEN, who="ann"), 1)]
    assert left == ["b", "c"]
    assert await chosen.withdraw(1, "a" * 32, "ann")
    assert not await chosen.withdraw(1, "a" * 32, "ann")


async def test_nobody_is_asked_which_of_two_same_answers_is_better(store: Store) -> None:
    """Answers without words may still differ in their calls, and of an older one nobody knows."""
    said = {"a": ("yes", "yes"), "b": ("yes", "no"), "c": ("", ""), "d": ("", "no"), "e": ("yes", None)}
    rows = [
        comparison(1, key * 32, "Nails?", answer("Yes."), answer("No."), facts={
            side: {} if word is None else {"said": word}
            for side, word in zip(("champion", "challenger"), words, strict=True)
        })
        for key, words in said.items()
    ]  # fmt: skip
    await seed_check(store, rows)
    left = [item[0] for item, _ in await walked(store, ComparisonFilter(show=Show.OPEN, who="ann"), 2)]
    assert left == ["b", "c", "d", "e"]
    every = [item[0] for item, _ in await walked(store, ComparisonFilter(), 2)]
    assert every == list(said)


async def test_a_judge_disagrees_where_a_person_prefers_the_other(store: Store) -> None:
    outcomes = {"a": -1.0, "b": 0.5, "c": -0.2, "d": 0.0, "e": 1.0}
    await seed_check(store, [comparison(1, c * 32, "?", answer("1"), answer("2"), outcome=x)
                             for c, x in outcomes.items()])  # fmt: skip
    for item, choice in (("a", "challenger"), ("b", "champion"), ("c", "champion"), ("d", "challenger"), ("e", "tie")):
        await store.preferences.put(1, item * 32, "ann", choice)  # type: ignore[arg-type]
    found = await walked(store, ComparisonFilter(show=Show.DISAGREES), 1)
    assert [item[0] for item, _ in found] == ["a", "b"]


async def test_a_deleted_user_takes_along_what_people_preferred_of_their_answers(store: Store) -> None:
    rows = [comparison(1, c * 32, "?", answer("1"), answer("2"), user_hash=user)
            for c, user in (("a", 7), ("b", 8), ("c", None))]  # fmt: skip
    await seed_check(store, rows)
    for row in rows:
        await store.preferences.put(1, row.item, "ann", "tie")
    await store.deletion.delete_user(7)
    assert set(await store.preferences.of(1, [row.item for row in rows])) == {"b" * 32, "c" * 32}


async def test_choices_go_with_the_answers_that_retention_drops(store: Store, clock: ManualClock) -> None:
    now_us, rng = int(clock.now() * 1e6), random.Random(1)
    rows = [comparison(1, new_id(at_us, rng), "?", answer("1"), answer("2"), created_us=at_us)
            for at_us in (now_us - 40 * 86_400_000_000, now_us - 1_000_000)]  # fmt: skip
    await seed_check(store, rows)
    for row in rows:
        await store.preferences.put(1, row.item, "ann", "tie")
    await store.retention.prune(RetentionConfig(bodies_days=30.0, records_days=0, max_bytes=0))
    assert set(await store.preferences.of(1, [row.item for row in rows])) == {rows[1].item}


async def test_what_people_prefer_is_found_by_record_with_both_texts(store: Store) -> None:
    for name in ("base", "short answers"):
        await store.models.add(name)
    at_us, rng = 1_760_000_000_000_000, random.Random(1)
    rows = [comparison(1, item, "?", answer("1"), answer("2"), record_id=item)
            for item in (new_id(at_us + n * 1_000_000, rng) for n in range(3))]  # fmt: skip
    await seed_check(store, [*rows, comparison(1, "golden:1", "?", answer("1"), answer("2"))])
    for row, choices in zip(rows, (("challenger",), ("champion", "tie"), ("champion", "challenger")), strict=True):
        for who, choice in zip(("ann", "bob"), choices, strict=False):
            await store.preferences.put(1, row.item, who, choice)  # type: ignore[arg-type]
    await store.preferences.put(1, "golden:1", "ann", "challenger")
    found = await store.samples.preferences()
    assert {record: [(one.choice, one.champion, one.challenger) for one in ones] for record, ones in found.items()} == {
        rows[0].item: [("challenger", "base", "short answers")],
        rows[1].item: [("champion", "base", "short answers")],
    }
    texts = await store.samples.compared([(1, row.item) for row in rows] + [(2, rows[0].item)])
    assert {key: content["challenger"]["text"] for key, content in texts.items()} == dict.fromkeys(
        [(1, row.item) for row in rows], "2"
    )
    assert await store.preferences.count_of_records(at_us, at_us + 10_000_000) == 3
    assert await store.preferences.count_of_records(at_us + 1_000_000, at_us + 2_000_000) == 1
