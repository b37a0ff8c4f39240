"""Incoherent futures are told from coherent ones: planted faults are found, recorded histories are left in peace."""

import time
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from models.validation.coherence.detectors import histories, tried
from models.validation.coherence.garble import garbled
from models.validation.coherence.lasting import LastingWorldModel
from models.validation.coherence.lived import BANDS, OFF, Lived, told
from models.validation.consistency import at_interval
from service.deadline import Deadline
from service.domains import catalog, detectors, plants
from service.simulator.anchored import AnchoredSimulator
from service.vocabulary.planted import retold
from service.vocabulary.proposal import Action
from service.vocabulary.reference import Split
from service.vocabulary.rollout import Ending, Imagined, Rollout, Transition
from service.vocabulary.violation import STUCK, Kind, Violation, stuck, violations
from service.world.model import Opening
from service.world.scripted import Line, ScriptedWorldModel
from tests.service.test_simulator import NoBank
from tests.toy_domain import KettleDomain, KettleState

DOMAINS = sorted(catalog())
TEXTUAL = {str(kind) for kind in Kind} | {"false_hope", "garbled"}


def steps_of(domain: str, least: int) -> tuple[Transition, ...]:
    """The first recorded history of so many turns."""
    return next(t.transitions for _, t in histories(catalog()[domain]) if len(t.transitions) >= least)


def kinds(domain: str, steps: Any) -> set[str]:
    return {each.kind for each in violations(detectors(domain), steps)}


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_looks_for_the_common_kinds_and_some_of_its_own(domain: str) -> None:
    assert set(Kind) < set(detectors(domain))
    assert set(plants(domain)) == set(detectors(domain))


@pytest.mark.parametrize("domain", DOMAINS)
def test_planted_faults_are_found_and_recorded_histories_left_in_peace(domain: str) -> None:
    for kind, scored in tried(catalog()[domain], 60).items():
        assert scored["n"] >= 10, kind
        assert scored["recall"]["value"] >= (0.6 if kind in TEXTUAL else 0.99), kind
        assert scored["precision"]["value"] >= 0.9, kind
        assert scored["false_alarms"]["value"] <= 0.02, kind


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_history_told_again_without_a_change_is_the_same_history(domain: str) -> None:
    steps = steps_of(domain, 4)
    assert retold(catalog()[domain], steps, 2) == steps


def test_a_fault_is_planted_alike_for_equal_seeds() -> None:
    scenario, trajectory = next(histories(catalog()["safety"]))
    made = [
        plants("safety")["contradiction"](Random("a"), scenario, trajectory.transitions, Split.seen) for _ in range(2)
    ]
    assert made[0] == made[1] != trajectory.transitions


def test_an_injury_under_a_harmless_label_is_a_contradiction_and_work_after_it_a_regression() -> None:
    steps = steps_of("safety", 3)
    hurt = retold(catalog()["safety"], steps, 0, said="worker struck in the zone")
    assert {(0, "contradiction"), (1, "status_regression")} <= {
        (each.turn, each.kind) for each in violations(detectors("safety"), hurt)
    }


def test_nobody_hurt_is_no_injury() -> None:
    steps = steps_of("safety", 3)
    fine = retold(catalog()["safety"], steps, 0, said="gust passed and nobody hurt", outcome="neutral", hazard="")
    assert "contradiction" not in kinds("safety", fine)


def test_work_that_goes_on_after_it_was_stopped_ignores_the_agent() -> None:
    steps = steps_of("safety", 2)
    held = (replace(steps[0], action=Action(kind="stop_work", text="Stop.")), *steps[1:])
    assert "ignored_agent" in kinds("safety", retold(catalog()["safety"], held, 1, said="crew keeps pace"))
    assert "ignored_agent" not in kinds("safety", retold(catalog()["safety"], steps, 1, said="crew keeps pace"))


def test_the_same_line_is_stuck_only_when_it_comes_again_and_again() -> None:
    step = steps_of("helpdesk", 1)[0]
    same = [replace(step, observation="Nothing new so far.")] * STUCK
    assert [turn for turn, _ in stuck(same)] == [STUCK - 1]
    assert list(stuck(same[1:])) == []
    assert list(stuck([replace(step, observation="")] * 20)) == []


def test_admitted_from_the_emergency_department_is_an_admission() -> None:
    steps = steps_of("triage", 1)[:1]
    taken = retold(catalog()["triage"], steps, 0, said="admitted from the ED", outcome="admission")
    assert "contradiction" not in kinds("triage", taken)
    assert "contradiction" in kinds("triage", retold(catalog()["triage"], taken, 0, outcome="ED_required"))


def test_good_news_in_part_is_progress_and_no_contradiction() -> None:
    steps = steps_of("helpdesk", 1)[:1]
    field = catalog()["helpdesk"]
    partly = retold(
        field, steps, 0, said="Part of it works now.", outcome="progress", learned="", mood=None, failed=False
    )
    whole = retold(field, partly, 0, said="Works now, checked together.")
    assert "contradiction" not in kinds("helpdesk", partly)
    assert "contradiction" in kinds("helpdesk", whole)


def test_words_that_never_stood_side_by_side_are_garbled() -> None:
    step = steps_of("helpdesk", 1)[0]
    look = garbled(["User confirms that it works.", "It works for a while."])
    lines = ["user confirms that it works for a while", "User confirms a while.", ""]
    assert [turn for turn, _ in look([replace(step, observation=line) for line in lines])] == [1]


# the figures


def lived(opening: int, wrong: list[int], interval: int, length: int = 20) -> Lived:
    step = Transition(KettleState(), Action(kind="wait"), "waiting", None, "", KettleState(), 0.0)
    steps = tuple(Imagined(step, {}, "a" if turn and turn % interval == 0 else None) for turn in range(length))
    violated = tuple(Violation(turn, "contradiction", "x") for turn in wrong)
    return Lived(("kettle", opening), interval, Rollout(0, steps, Ending.horizon), violated)


def test_planted_violations_come_back_as_shares_by_arm_band_and_kind() -> None:
    futures = [lived(0, [17], 4), lived(1, [], 4), lived(0, [0, 16, 17, 18], OFF), lived(1, [], OFF, length=5)]
    scored = told(futures, {4})
    assert scored["anchored"]["value"] == pytest.approx(39 / 40)
    assert scored["unanchored"]["value"] == pytest.approx(21 / 25)
    assert scored["anchored_turns_16_20"]["value"] == pytest.approx(0.9)
    assert scored["by_band"]["unanchored"]["16-20"]["value"] == pytest.approx(0.4)
    assert scored["by_kind"]["unanchored"]["contradiction"]["turns"]["value"] == pytest.approx(4 / 25, abs=1e-4)
    assert scored["by_interval"]["4"]["rollouts"]["value"] == 0.5
    assert scored["by_interval"]["4"]["grounded"]["value"] == 1.0
    assert scored["by_interval"]["off"]["reached"] == {"1-5": 2, "6-10": 1, "11-15": 1, "16-20": 1}
    assert set(scored["by_interval"]) == {"2", "4", "5", "8", "off"}


def test_bands_cover_every_turn_once() -> None:
    assert [turn for first, last in BANDS for turn in range(first, last + 1)] == list(range(1, OFF))


def test_an_interval_changes_nothing_else_of_a_field() -> None:
    usual = catalog()["safety"]
    changed = at_interval(usual, 8)
    assert changed.policy.anchor_interval == 8
    assert replace(changed.policy, anchor_interval=usual.policy.anchor_interval) == usual.policy
    assert (changed.name, changed.outcomes) == (usual.name, usual.outcomes)


# futures that last

TEA, WAITING = Line("tea"), Line("waiting")


async def played(*script: list[Line]) -> tuple[list[str], ...]:
    """Seed 2 is asked to last three turns, seed 4 is not."""
    world = LastingWorldModel(ScriptedWorldModel(*script), frozenset([2]), 3)
    opening = Opening(KettleDomain(), KettleState(), Action(kind="pour"))
    deadline = Deadline.after(10_000, time.monotonic)
    simulation = await AnchoredSimulator(world, NoBank()).simulate(opening, [2, 4], deadline, 3)
    return tuple(list(rollout.outcomes) for rollout in simulation.rollouts)


async def test_a_future_asked_to_last_is_drawn_again_where_it_would_end_and_only_there() -> None:
    """The script of even seeds ends at once, that of odd seeds goes on."""
    assert await played([TEA], [WAITING]) == (["waiting", "waiting", "waiting"], ["tea"])


async def test_the_last_turn_of_a_lasting_future_may_end_it() -> None:
    assert await played([WAITING, WAITING, TEA], [WAITING]) == (["waiting", "waiting", "tea"],) * 2


async def test_a_future_that_cannot_last_ends() -> None:
    assert await played([TEA]) == (["tea"], ["tea"])
