"""What the overload run counts, and that it runs."""

import asyncio
import json
from itertools import islice
from pathlib import Path

import pytest

from loadtest.overload import Answer, Round, arrivals, measure, missed, proposals, recovered, rising, simulated
from loadtest.process import started

KEPT = {
    "goodput_ratio": 0.95,
    "accepted_p99_over_deadline": 0.9,
    "refusal_p99_ms": 12.0,
    "recovery_s": 0.0,
}


def answer(status: int = 200, took: float = 100.0, good: bool = True) -> Answer:
    return Answer(due=0.0, took=took, lag=1.0, status=status, share=took / 800, good=good)


def test_a_round_tells_the_accepted_from_the_refused_and_from_what_failed() -> None:
    told = Round.of([answer(), answer(took=900, good=False), answer(503, 5, good=False), answer(500, good=False)], 2.0)
    assert (told.offered, told.accepted, told.goodput, told.refused, told.errors) == (2.0, 1.0, 0.5, 0.5, 1)
    assert told.accepted_p99_over_deadline and told.accepted_p99_over_deadline > 1 and told.refusal_p99_ms == 5
    assert Round.of([answer()], 1.0).refusal_p50_ms is None


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("goodput_ratio", 0.89),
        ("accepted_p99_over_deadline", 1.01),
        ("refusal_p99_ms", 21.0),
        ("recovery_s", 5.1),
        ("recovery_s", None),
    ],
)
def test_every_aim_can_be_missed(figure: str, value: float | None) -> None:
    assert missed(KEPT) == missed(KEPT | {"refusal_p99_ms": None}) == []
    assert missed(KEPT | {figure: value}) == [figure]


def test_the_ramp_goes_on_until_two_steps_gave_no_more() -> None:
    assert rising([]) and rising([5.0]) and rising([5.0, 4.0]) and rising([5.0, 4.0, 6.0]) and rising([5.0, 6.0, 4.0])
    assert not rising([5.0, 6.0, 4.0, 5.9])


def test_recovered_is_when_two_seconds_were_good_throughout() -> None:
    late = [Answer(due, 100, 1, 200, 0.1, good=due != 1.6) for due in (0.1, 0.9, 1.6, 2.5, 3.4)]
    assert recovered(late, 4.0) == 1.75 and recovered([], 4.0) == 0.0
    assert recovered([Answer(due / 2, 100, 1, 503, 0.1, good=False) for due in range(8)], 4.0) is None


def test_an_answer_without_enough_whole_futures_is_not_good() -> None:
    assert simulated({"basis": "simulated", "reason": "risk_above_threshold"})
    assert not simulated({"basis": "simulated", "reason": "too_few_rollouts"})
    assert not simulated({"basis": "history_only", "reason": "world_model_unavailable"})


def test_arrivals_come_at_their_rate_and_the_same_again_for_the_same_seed() -> None:
    told = [*arrivals(50, 100, seed=1)]
    assert told == [*arrivals(50, 100, seed=1)] != [*arrivals(50, 100, seed=2)]
    assert 4_700 < len(told) < 5_300 and told == sorted(told) and told[-1] < 100


def test_what_is_asked_is_of_every_domain_and_needs_a_simulation(tmp_path: Path) -> None:
    """By asking the real service, whose scripted world is quick, so that nothing keeps it from simulating."""
    asked = [*islice(proposals(1), 12)]
    assert {each.domain for each in asked} == {"helpdesk", "safety", "triage"}
    with started(tmp_path, authentication=False) as service, service.client() as client:
        answers = [client.post("/v1/evaluations", json=json.loads(each.body)).json() for each in asked]
    assert {each["basis"] for each in answers} == {"simulated"}


def test_a_short_run_finds_a_capacity_and_tells_all_that_is_owed(tmp_path: Path) -> None:
    with started(tmp_path, scripted_latency_ms=50, max_in_flight=4) as service:
        told = asyncio.run(measure(service, step_s=1.0, burst_s=1.5, calm_s=1.0))
    assert told["capacity"] > 0 and told["offered"] > told["capacity"]
    assert set(KEPT) < set(told) and json.loads(json.dumps(told, allow_nan=False)) == told
    assert all(each["errors"] == 0 for each in told["rounds"].values())
