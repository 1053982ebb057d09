"""What cannot be done now holds up nothing else: retries are kept by action and by what it acts on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policies.actions import TAGS, AbandonModel, PrepareData, Retire, SetPaused, StartDeployment, target_of
from policies.lifecycle import Phase
from policies.plan import LoopRules, plan
from policies.snapshot import Snapshot
from policies.state import Retiring, Retry, retry_of
from proxy.loop.codec import from_json, to_json
from tests.policies.test_plan import NOW, seen

RULES = LoopRules(check_interval_s=60.0)
HOUR = 3600.0


def retiring(*ids: int) -> tuple[Retiring, ...]:
    return tuple(Retiring(id=id, name=f"model-{id}", due_at=NOW) for id in ids)


def test_an_action_is_named_with_what_it_acts_on() -> None:
    assert target_of(Retire(model_id=7)) == "7"
    assert target_of(PrepareData(run_id="run-1", trigger="manual")) == "", "its run is new at each attempt"
    assert target_of(SetPaused(paused=True)) == ""
    assert len({*TAGS.values()}) == len(TAGS)


def test_a_retry_of_one_model_is_none_of_another() -> None:
    first, second = Retire(model_id=1), Retire(model_id=2)
    of_first = Retry(action="Retire", target="1", at=NOW, attempts=1, reason="r")
    assert retry_of((of_first,), first) == of_first
    assert retry_of((of_first,), second) is None
    earlier = from_json(Retry, {"action": "Retire", "at": NOW, "attempts": 3, "reason": "an earlier version's"})
    assert retry_of((earlier,), second) == earlier
    assert retry_of((of_first, earlier), first) == of_first
    assert from_json(Retry, to_json(of_first)) == of_first


def test_the_first_that_refuses_does_not_keep_the_others_running() -> None:
    stuck = Retry(action="Retire", target="1", at=NOW + 300, attempts=4, reason="HTTP 500")
    snapshot = seen(retiring=retiring(1, 2), retries=(stuck,))
    assert plan(snapshot, RULES, NOW).action == Retire(model_id=2)
    only = plan(replace(snapshot, retiring=retiring(1)), RULES, NOW)
    assert only.held == Retire(model_id=1)
    assert "model-1 is still running: attempt 4 failed (HTTP 500); the next is in 5 min" in only.reasons[0]
    assert only.wake_at == NOW + 60, "the phase's own look is not put off"
    assert plan(replace(snapshot, retiring=retiring(1)), RULES, NOW + 301).action == Retire(model_id=1)


def test_what_waits_or_is_paused_does_not_keep_models_running() -> None:
    due = replace(seen().triggers, new_quality_samples=1000)
    waits = (Retry(action="PrepareData", at=NOW + 50, attempts=1, reason="too few"),)
    for snapshot in (
        seen(triggers=due, retries=waits, retiring=retiring(3)),
        seen(triggers=due, paused=True, retiring=retiring(3)),
    ):
        assert plan(snapshot, RULES, NOW).action == Retire(model_id=3)
    stuck = Retry(action="Retire", target="3", at=NOW + 9, attempts=1, reason="HTTP 500")
    both = plan(seen(triggers=due, retries=(*waits, stuck), retiring=retiring(3)), RULES, NOW)
    assert isinstance(both.held, PrepareData)
    assert both.wake_at == NOW + 9


def test_a_deployment_that_was_given_up_is_told_by_its_own_attempts() -> None:
    model = seen(Phase.DEPLOYING, challenger=replace(seen().champion, id=2, name="model-2"))
    other = Retry(action="StartDeployment", target="9", at=NOW, attempts=5, reason="no GPU")
    assert plan(replace(model, retries=(other,)), RULES, NOW).action == StartDeployment(model_id=2)
    mine = replace(other, target="2")
    assert plan(replace(model, retries=(mine,)), RULES, NOW).action == AbandonModel(model_id=2, reason="no GPU")


def drive(snapshot: Snapshot, failing: set[int], until: float, attempt_s: float) -> tuple[dict[int, list[float]], int]:
    """Tick until then, as the loop does: when each model was tried, and how many ticks it took for the others."""
    tried: dict[int, list[float]] = {}
    now, ticks, others_at = NOW, 0, 0
    while now < until:
        decided = plan(snapshot, RULES, now)
        ticks += 1
        if not isinstance(decided.action, Retire):
            now = max(decided.wake_at, now + 1.0)
            continue
        target = decided.action.model_id
        tried.setdefault(target, []).append(now)
        now += attempt_s
        if target in failing:
            before = retry_of(snapshot.retries, decided.action)
            attempts = 1 + (before.attempts if before else 0)
            retry = Retry(action="Retire", target=str(target), attempts=attempts, reason="HTTP 500",
                          at=now + min(10.0 * 2.0 ** (attempts - 1), 600.0))  # fmt: skip
            rest = tuple(one for one in snapshot.retries if one.target != retry.target)
            snapshot = replace(snapshot, retries=(*rest, retry))
        else:
            left = tuple(model for model in snapshot.retiring if model.id != target)
            snapshot, others_at = replace(snapshot, retiring=left), ticks
    return tried, others_at


@given(
    ids=st.lists(st.integers(1, 50), min_size=1, max_size=12, unique=True),
    chosen=st.sets(st.integers(0, 11)),
    attempt_s=st.sampled_from([0.1, 30.0]),
)
def test_all_that_can_be_stopped_are_and_none_that_refuses_starves(
    ids: list[int], chosen: set[int], attempt_s: float
) -> None:
    failing = {ids[at] for at in chosen if at < len(ids)}
    tried, others_at = drive(seen(retiring=retiring(*ids)), failing, NOW + 3 * HOUR, attempt_s)
    assert set(tried) == set(ids)
    assert all(len(tried[model]) == 1 for model in ids if model not in failing)
    assert others_at <= len(ids), "each was tried once before any is tried again"
    for model in failing:
        gaps = [later - earlier for earlier, later in zip(tried[model], tried[model][1:], strict=False)]
        assert gaps, "it is tried again"
        assert all(gap >= 10.0 for gap in gaps)
        assert max(gaps) <= 600.0 + attempt_s * (len(failing) + 1) + RULES.check_interval_s
        assert gaps[-1] >= 300.0, "later and later"
