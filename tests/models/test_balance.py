"""Rare outcomes are shown more often, and the odds they teach stay what they were."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest

from models.training.balance import NEAR_MISS, SEVERE, balanced, factor
from service.domains import catalog
from service.vocabulary.rollout import Trajectory
from service.vocabulary.severity import Severity

DOMAINS = pytest.mark.parametrize("name", catalog())


def outcomes(trajectories: Sequence[Trajectory], shown: Sequence[tuple[int, float]]) -> Counter[str]:
    """How much weight the outcomes have, over every step that is shown."""
    found: Counter[str] = Counter()
    for place, weight in shown:
        for step in trajectories[place].transitions:
            found[step.outcome] += weight  # type: ignore[assignment]
    return found


@DOMAINS
def test_severe_endings_are_seen_five_times_as_often(name: str, histories: Mapping[str, list[Trajectory]]) -> None:
    domain, trajectories = catalog()[name], histories[name]
    seen = Counter(place for place, _ in balanced(trajectories, domain, Random("seen")))
    severe = [n for n, each in enumerate(trajectories) if factor(each, domain) == SEVERE]
    usual = [n for n, each in enumerate(trajectories) if factor(each, domain) == 1.0]
    assert severe and {seen[n] for n in severe} == {5} and {seen[n] for n in usual} == {1}


@DOMAINS
def test_the_weighted_frequency_of_every_outcome_is_what_it_was(
    name: str, histories: Mapping[str, list[Trajectory]]
) -> None:
    trajectories = histories[name]
    plain = outcomes(trajectories, [(place, 1.0) for place in range(len(trajectories))])
    shown = balanced(trajectories, catalog()[name], Random("shown"))
    assert outcomes(trajectories, shown) == pytest.approx(plain)
    assert outcomes(trajectories, [(place, 1.0) for place, _ in shown]) != plain, "without the weights it is not"


def test_near_misses_are_shown_two_and_a_half_times_on_average(histories: Mapping[str, list[Trajectory]]) -> None:
    domain, first = catalog()["safety"], histories["safety"][0]
    near = replace(first, transitions=(replace(first.transitions[0], outcome="near_miss"),))
    assert domain.outcomes["near_miss"].severity == domain.adverse_from(near.transitions[0].action) == Severity.minor
    seen = Counter(Counter(place for place, _ in balanced([near] * 4_000, domain, Random("near"))).values())
    assert set(seen) == {2, 3}
    assert (2 * seen[2] + 3 * seen[3]) / 4_000 == pytest.approx(NEAR_MISS, abs=0.03)


def test_what_is_mild_for_one_action_is_a_near_miss_for_another(histories: Mapping[str, list[Trajectory]]) -> None:
    """A need for the emergency department is what advice to go there foresaw, and a failure of advice to stay at home."""
    domain, first = catalog()["triage"], histories["triage"][0].transitions[0]
    ending = replace(first, outcome="ED_required")
    home, there = (
        replace(ending, action=ending.action.model_copy(update={"kind": kind, "text": text}))
        for kind, text in (("home_care", "stay at home"), ("ed_now", "go to the emergency department"))
    )
    told = [replace(histories["triage"][0], transitions=(step,)) for step in (home, there)]
    assert [factor(each, domain) for each in told] == [NEAR_MISS, 1.0]
