"""What construction safety promises: hard rules both ways, pure steps, compact facts, a made history with true odds."""

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from service.domains.safety import DOMAIN
from service.domains.safety.forecast import SafetyChanges
from service.domains.safety.odds import HIDDEN, Odds, Said, posterior, start
from service.domains.safety.reference import REFERENCE, phrases
from service.domains.safety.state import SafetyState, felt
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.reference import Scenario, Split

CASES = yaml.safe_load(Path("service/domains/safety/examples.yaml").read_text())


def state(**given: Any) -> SafetyState:
    return SafetyState.model_validate(given)


def rules(state: SafetyState, kind: str, text: str = "", **arguments: Any) -> list[str]:
    action = Action(kind=kind, text=text, arguments=arguments)
    return [hit.rule for hit in DOMAIN.hard_rules(Proposal(domain="safety", state=state, action=action))]


@cache
def drawn(split: Split, count: int = 400) -> tuple[Scenario, ...]:
    rng = Random(11)
    return tuple(REFERENCE.scenario(rng, split) for _ in range(count))


def words(scenario: Scenario) -> str:
    facts = DOMAIN.facts(scenario.state, scenario.action)
    told = [f"{fact.name} {fact.value}" for fact in facts]
    return " ".join((*told, scenario.action.kind, scenario.action.text)).lower()


WINDY = {
    "environmental_conditions": {"gust_mph": 23},
    "equipment_in_use": ["tower crane"],
    "task_description": "Crane work.",
}
BROKEN = [
    (WINDY, "lift", "Proceed with the lift", {}, "lift_above_wind_limit"),
    (WINDY, "proceed", "Carry on.", {}, "lift_above_wind_limit"),
    ({"recent_observations": ["gusting to 11 m/s"]}, "proceed", "start the crane lift", {}, "lift_above_wind_limit"),
    ({"environmental_conditions": {"wind_mph": 18}}, "lift", "go", {"wind_limit_mph": 15}, "lift_above_wind_limit"),
    ({}, "enter", "Enter the tank, no gas test needed", {}, "confined_space_unready"),
    ({}, "proceed", "Don't bother with the gas test, climb into the manhole", {}, "confined_space_unready"),
    ({"compliance_status": {"attendant": False}}, "enter", "go in", {}, "confined_space_unready"),
    (
        {"recent_observations": ["the air test was skipped"]},
        "enter",
        "go into the vessel",
        {},
        "confined_space_unready",
    ),
    ({}, "work_at_height", "Fix the gutter 5 m up, not tied off", {}, "no_fall_protection"),
    ({}, "proceed", "Work on the roof without a harness", {}, "no_fall_protection"),
    ({"compliance_status": {"fall_protection": False}}, "work_at_height", "go up", {}, "no_fall_protection"),
    ({}, "excavate", "Lay pipe in the 7 ft trench, shoring is not in yet", {}, "unprotected_trench"),
    ({"compliance_status": {"trench_protection": False}}, "excavate", "", {"depth_ft": 6}, "unprotected_trench"),
    ({}, "energise", "Change the busbar without lockout", {}, "energised_without_lockout"),
    (
        {"recent_observations": ["panel is not isolated"]},
        "proceed",
        "Work on the switchgear",
        {},
        "energised_without_lockout",
    ),
    (
        {"environmental_conditions": {"heat_index_c": 41}, "recent_observations": ["one man feels dizzy"]},
        "pour",
        "keep pouring",
        {},
        "symptoms_in_danger_heat",
    ),
    (
        {"environmental_conditions": {"gust_mph": 28}},
        "report",
        "Go ahead with the crane lift",
        {},
        "lift_above_wind_limit",
    ),
]
KEPT = [
    ({"environmental_conditions": {"gust_mph": 9}}, "lift", "Proceed with the lift", {}),
    (WINDY, "postpone", "Postpone the lift until wind is below 20 mph", {}),
    (WINDY, "proceed", "Sweep the walkway", {}),
    (
        {"recent_observations": ["forecast of gusts up to 40 mph tomorrow"]},
        "lift",
        "start; stop if gusts exceed 20 mph",
        {},
    ),
    (
        {"environmental_conditions": {"gust_mph": 23}, "equipment_in_use": [{"name": "crane", "wind_limit_mph": 28}]},
        "lift",
        "lift",
        {},
    ),
    ({}, "enter", "Do not enter without a gas test; test done, attendant posted, enter now", {}),
    ({}, "enter", "Gas test was not skipped, meter clean, attendant at the hatch", {}),
    ({"compliance_status": {"atmospheric_test": True, "attendant": True}}, "enter", "Enter the tank", {}),
    ({}, "work_at_height", "Nobody goes up without a harness, everyone tied off", {}),
    ({}, "work_at_height", "Step on a 3 ft platform without a harness", {}),
    ({}, "excavate", "Dig the 4 ft trench without shoring", {}),
    ({}, "excavate", "Work in the 8 ft trench inside the trench box", {}),
    ({}, "energise", "Locked out and tagged, proven dead. Change the breaker", {}),
    ({}, "energise", "Never work on live parts without lockout. Locks are on.", {}),
    (
        {"environmental_conditions": {"heat_index_c": 41}, "recent_observations": ["nobody is dizzy"]},
        "pour",
        "keep pouring",
        {},
    ),
    (
        {"environmental_conditions": {"heat_index_c": 33}, "recent_observations": ["one man is dizzy"]},
        "pour",
        "keep pouring",
        {},
    ),
    (
        {"environmental_conditions": {"heat_index_c": 41}, "recent_observations": ["one man is dizzy"]},
        "hydrate_and_rest",
        "rest",
        {},
    ),
]


@pytest.mark.parametrize(("given", "kind", "text", "arguments", "rule"), BROKEN)
def test_a_broken_rule_is_hit(given: Any, kind: str, text: str, arguments: Any, rule: str) -> None:
    assert rule in rules(state(**given), kind, text, **arguments)


@pytest.mark.parametrize(("given", "kind", "text", "arguments"), KEPT)
def test_harmless_or_prohibiting_words_hit_no_rule(given: Any, kind: str, text: str, arguments: Any) -> None:
    assert rules(state(**given), kind, text, **arguments) == []


def test_the_gate_lets_only_looking_telling_and_resting_pass() -> None:
    assert not DOMAIN.high_impact(Action(kind="inspect", text="Check the crane before we proceed with the lift"))
    assert DOMAIN.high_impact(Action(kind="pour"))
    assert DOMAIN.high_impact(Action(kind="something nobody has heard of"))
    assert DOMAIN.high_impact(Action(kind="observe", text="Skip the briefing and keep working"))


def test_a_step_is_pure_and_clamped() -> None:
    before = state(
        crew_status={"hours_on_site": 47.8},
        environmental_conditions={"gust_mph": 20, "wind_mph": 15},
        active_hazards=["mud"],
    )
    kept = before.model_dump()
    forecast = Forecast(
        "elevated_risk", {}, SafetyChanges(gust_mph=10, symptoms="mild", hazard="crew tiring"), "slower now"
    )
    after = DOMAIN.advance(before, Action(kind="lift", text="Lift it"), forecast)
    assert before.model_dump() == kept
    assert after == DOMAIN.advance(before, Action(kind="lift", text="Lift it"), forecast)
    assert (after.crew_status.hours_on_site, after.environmental_conditions.gust, after.crew_status.symptoms) == (
        48.0,
        10.0,
        "mild",
    )
    assert (after.active_hazards, after.started_kind, after.recent_observations) == (
        ("mud", "crew tiring"),
        "lift",
        ("slower now",),
    )
    assert SafetyState.model_validate(after.model_dump()) == after


def test_what_was_held_stays_held_and_what_was_started_goes_on() -> None:
    forecast = Forecast("neutral", {}, SafetyChanges(), "")
    for kind, then in (("postpone", "observe"), ("pour", "proceed")):
        assert DOMAIN.continuation(DOMAIN.advance(state(), Action(kind=kind), forecast)).kind == then


def test_the_heat_index_agrees_with_the_published_table() -> None:
    assert felt((90 - 32) / 1.8, 70) == pytest.approx((106 - 32) / 1.8, abs=0.6)
    assert felt((100 - 32) / 1.8, 40) == pytest.approx((109 - 32) / 1.8, abs=0.6)


def test_facts_are_compact_and_put_numbers_before_words() -> None:
    lengths = [len(words(scenario).split()) for scenario in drawn(Split.seen)]
    assert max(lengths) <= 110 and sum(length <= 90 for length in lengths) >= 0.99 * len(lengths)
    names = [
        fact.name
        for fact in DOMAIN.facts(state(**WINDY, crew_status={"hours_on_site": 11}), Action(kind="lift", text="go"))
    ]
    assert names.index("gust") < names.index("hours") < names.index("task")
    assert DOMAIN.facts(state(), Action(kind="ask")) == ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_examples_are_valid_and_break_the_rules_they_say(case: Any) -> None:
    proposal = Proposal.model_validate(
        case["proposal"] | {"state": SafetyState.model_validate(case["proposal"]["state"])}
    )
    assert [hit.rule for hit in DOMAIN.hard_rules(proposal)] == case["record"]["rules"]
    for step in case["world"]:
        assert sum(step["probabilities"].values()) == pytest.approx(1) and set(step["probabilities"]) <= set(
            DOMAIN.outcomes.names
        )
    factors = str(DOMAIN.risk_factors(proposal, ())) + str(DOMAIN.hard_rules(proposal))
    assert all(mention in factors for mention in case["record"]["mentions"])
    assert 2 <= len(DOMAIN.alternatives(proposal)) <= 3 and 3 <= len(DOMAIN.questions(proposal.state, None)) <= 5
    assert case.get("twin_of") in (None, *(other["name"] for other in CASES))


def test_the_worked_cases_are_far_apart_in_the_made_history() -> None:
    def risk(*given: Any, **more: Any) -> float:
        return Odds(Said(*given, **more)).risk(Random(1), 5, 1_000)

    assert (
        risk("crane_lift", "routine", gust=23, hours=11) >= 0.55
        and risk("crane_lift", "routine", gust=9, hours=4) <= 0.10
    )
    assert risk("concrete", "skip_briefing", felt=38.0, hours=10, signs=("dizzy",)) >= 0.55
    assert risk("concrete", "careful", felt=21.0, hours=2, briefed=True) <= 0.10


def test_outcomes_follow_the_odds_that_risk_reports() -> None:
    rng, bins = Random(5), [[0.0, 0.0, 0.0] for _ in range(4)]
    for scenario in drawn(Split.seen):
        risk = REFERENCE.risk(Random(1), scenario, 5, 200)
        for _ in range(5):
            last = REFERENCE.trajectory(rng, scenario, 5, "t").transitions[-1].outcome
            found = bins[(risk > 0.1) + (risk > 0.4) + (risk > 0.8)]
            found[0], found[1], found[2] = (
                found[0] + 1,
                found[1] + risk,
                found[2] + (DOMAIN.outcomes[last].severity > 0),
            )
    assert all(abs(harmed - expected) / count < 0.05 for count, expected, harmed in bins)


def test_the_spread_of_risk_is_wide_and_critical_outcomes_are_rare() -> None:
    acting = [s for s in drawn(Split.seen, 1_200) if DOMAIN.high_impact(s.action)]
    risks = [REFERENCE.risk(Random(1), scenario, 5, 60) for scenario in acting]
    low, high = sum(p < 0.1 for p in risks) / len(risks), sum(p > 0.4 for p in risks) / len(risks)
    assert 0.40 < low < 0.55 and 0.22 < high < 0.36 and max(risks) > 0.9
    rng = Random(2)
    ends = [REFERENCE.trajectory(rng, scenario, 5, "t").transitions[-1].outcome for scenario in acting]
    assert ends.count("serious_incident") < 0.04 * len(ends)


def test_the_odds_of_a_step_sum_to_one_and_the_adverse_part_is_the_hazard() -> None:
    for scenario in drawn(Split.seen)[:50]:
        odds, progress = Odds(scenario.said), start(scenario.said)
        assert sum(posterior(scenario.said)) == pytest.approx(1)
        for z in HIDDEN:
            assert sum(odds.of(z, progress)) == pytest.approx(1) and sum(odds.of(z, progress)[4:]) == pytest.approx(
                odds.hazard(z, progress)
            )


def test_held_out_families_are_never_seen_and_always_drawn_when_asked() -> None:
    assert {s.family for s in drawn(Split.unseen_family)} == {"demolition", "roofing"}
    assert not {s.family for s in drawn(Split.seen)} & {"demolition", "roofing"}


def test_seen_and_unseen_wording_never_meet() -> None:
    banks = [*phrases()["intents"].values(), *phrases()["signs"].values()]
    banks += [bank for family in phrases()["families"].values() for bank in family.values()]
    unseen = {text.lower().rstrip(".").replace("{job}", "") for bank in banks for text in bank.get("unseen", ())}
    seen = {text.lower().rstrip(".") for bank in banks for text in bank["seen"]}
    assert not unseen & {text.replace("{job}", "") for text in seen}
    stems = [text for text in unseen if len(text) > 20]
    assert not any(stem in words(scenario) for scenario in drawn(Split.seen) for stem in stems)
    assert sum(any(stem in words(s) for stem in stems) for s in drawn(Split.unseen_wording)) > 100


def test_texts_never_name_a_hidden_cause() -> None:
    for split in Split:
        assert not any(
            name in words(s)
            for s in drawn(split)
            for name in ("strain", "hidden", "latent", "exposure", "weather turn")
        )


def test_the_same_seed_draws_the_same_history() -> None:
    def draw() -> object:
        rng = Random(9)
        return REFERENCE.trajectory(rng, REFERENCE.scenario(rng), 5, "t-1")

    assert draw() == draw()
