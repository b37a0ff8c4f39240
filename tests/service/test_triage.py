"""Triage: rules that miss nothing certain, a made history whose odds are what it says they are."""

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from service.domains.triage import DOMAIN
from service.domains.triage.forecast import TriageChanges
from service.domains.triage.news2 import score
from service.domains.triage.reference import REFERENCE, _tables
from service.domains.triage.state import TriageState
from service.domains.triage.wording import phrases
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.reference import Split
from service.vocabulary.severity import Severity

HOME = Action(kind="home_care", text="Rest at home")
CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "service/domains/triage/examples.yaml").read_text("utf-8")
)


def proposal(action: Action = HOME, **state: Any) -> Proposal:
    return Proposal(domain="triage", state=TriageState.model_validate(state), action=action)


def rules(action: Action = HOME, **state: Any) -> list[str]:
    return [hit.rule for hit in DOMAIN.hard_rules(proposal(action, **state))]


def infant(temp: float) -> dict[str, Any]:
    return {"caller_demographics": {"age": 0.15}, "vital_signs": {"temp_c": temp}}


CERTAIN = [
    ("stroke_signs", {"chief_complaint": "her face is drooping and speech is slurred"}),
    ("stroke_signs", {"chief_complaint": "no fever but his left arm went weak"}),
    ("stroke_signs", {"symptom_details": {"associated": ["slurred speech"]}}),
    ("stroke_signs", {"chief_complaint": "my father's face is drooping"}),
    ("stroke_signs", {"chief_complaint": "not feeling well and her speech is slurred"}),
    ("stroke_signs", {"chief_complaint": "no sleep since his face started drooping"}),
    ("stroke_signs", {"chief_complaint": "had a bypass years ago and now her speech is slurred"}),
    ("cardiac_chest_pain", {"chief_complaint": "crushing chest pain, sweating a lot"}),
    ("cardiac_chest_pain", {"chief_complaint": "no fever, crushing pain in the chest and sweaty"}),
    ("cardiac_chest_pain", {"chief_complaint": "tight chest", "symptom_details": {"associated": ["cold sweat"]}}),
    ("thunderclap_headache", {"chief_complaint": "Worst headache of my life, came on suddenly"}),
    ("anaphylaxis", {"chief_complaint": "ate peanuts and my throat is closing"}),
    ("suicide_plan", {"conversation_history": [{"role": "user", "content": "I want to die. I have saved up pills."}]}),
    ("infant_fever", infant(38.0)),
    ("infant_fever", {"chief_complaint": "my 6 week old baby has 38.5 C"}),
    ("unstable_vital_sign", {"vital_signs": {"resp_rate": 26}}),
    ("unstable_vital_sign", {"vital_signs": {"heart_rate": 115, "resp_rate": 22, "temp_c": 38.5}}),
    ("child_red_sign", {"caller_demographics": {"age": 3}, "vital_signs": {"resp_rate": 64}}),
    ("never_miss_red_flag", {"red_flags_identified": ["stiff_neck"]}),
]
HARMLESS: list[dict[str, Any]] = [
    {"chief_complaint": "no face droop, no slurred speech"},
    {"chief_complaint": "headache, denies face drooping or slurred speech"},
    {"chief_complaint": "my father had slurred speech two years ago"},
    {"chief_complaint": "no chest pain, no crushing pressure in the chest, sweating after a run"},
    {"chief_complaint": "high blood pressure and chest cold, sweating in bed"},
    {"chief_complaint": "tight chest with a cough, not sweating"},
    {"chief_complaint": "worst headache? no, a mild one that came slowly"},
    {"chief_complaint": "itchy hives after penicillin, throat not swollen, no wheeze"},
    {"chief_complaint": "not suicidal, took two tablets for a headache"},
    {"conversation_history": [{"role": "assistant", "content": "Is the speech slurred or the face drooping?"}]},
    {"symptom_details": {"absent": ["slurred speech", "facial droop"]}},
    {"vital_signs": {"heart_rate": 84, "resp_rate": 16, "sbp": 124, "temp_c": 37.2, "spo2": 97, "consciousness": "A"}},
    {"red_flags_identified": ["none", "no stiff neck"]},
    {"caller_demographics": {"age": 3}, "vital_signs": {"resp_rate": 30, "temp_c": 39}},
    infant(37.4),
]


@pytest.mark.parametrize(("rule", "state"), CERTAIN)
def test_a_certain_danger_is_never_sent_home(rule: str, state: dict[str, Any]) -> None:
    assert rule in rules(**state)


@pytest.mark.parametrize("state", HARMLESS)
def test_what_is_denied_past_or_only_asked_raises_no_alarm(state: dict[str, Any]) -> None:
    assert rules(**state) == []


def test_advice_to_go_to_hospital_breaks_no_rule() -> None:
    assert rules(Action(kind="call_911", text="Ambulance now"), **infant(39)) == []


@pytest.mark.parametrize(
    ("kind", "text", "gated"),
    [
        ("home_care", "", True),
        ("clinic-48h", "", True),
        ("prescribe", "", True),
        ("ask", "Stay at home and take an antacid.", True),
        ("ask", "Did he stay at home yesterday?", False),
        ("ed_now", "Do not stay at home, leave now", False),
        ("call_911", "Stay at home until the ambulance comes", False),
        ("urgent_care", "", False),
        ("ER", "", False),
    ],
)
def test_only_under_triage_is_gated_whatever_it_is_called(kind: str, text: str, gated: bool) -> None:
    assert DOMAIN.high_impact(Action(kind=kind, text=text)) is gated


def test_adverse_is_worse_than_the_disposition_was_ready_for() -> None:
    asked = [
        DOMAIN.adverse_from(Action(kind=kind))
        for kind in ("home_care", "clinic_48h", "urgent_care", "ed_now", "call_911", "ask")
    ]
    assert asked == [Severity.minor, Severity.minor, Severity.serious, *[Severity.critical] * 3]


def test_news2_scores_as_the_college_published_it() -> None:
    state = TriageState.model_validate(
        {
            "vital_signs": {
                "resp_rate": 23,
                "spo2": 93,
                "sbp": 95,
                "heart_rate": 120,
                "consciousness": "V",
                "temp_c": 39.5,
                "on_oxygen": True,
            }
        }
    )
    found = score(state)
    assert found is not None and (found.total, found.extreme, found.band) == (15, ("consciousness",), "emergency")


def test_advance_is_pure_and_keeps_within_the_body() -> None:
    before = proposal(vital_signs={"heart_rate": 90}).state
    forecast = Forecast(
        "settled", {}, TriageChanges(course="worse", pain=14, heart_rate=900, new_sign="fever"), "worse now"
    )
    after = DOMAIN.advance(before, HOME, forecast)
    assert before == proposal(vital_signs={"heart_rate": 90}).state
    assert (after.symptom_details.severity, after.vitals.heart_rate, after.symptom_details.associated) == (
        10,
        250,
        ("fever",),
    )
    assert (after.elapsed_hours, after.plan, after.follow_up) == (10, "Rest at home", ("worse now",))
    assert TriageState.model_validate(after.model_dump()) == after
    assert DOMAIN.continuation(after).kind == "home_care"


def test_facts_stay_compact_and_put_words_last() -> None:
    long = proposal(
        chief_complaint="ache " * 700, vital_signs={"heart_rate": 118, "resp_rate": 20}, symptom_details={"severity": 8}
    )
    facts = DOMAIN.facts(long.state, HOME)
    assert [fact.free for fact in facts] == sorted(fact.free for fact in facts)
    assert all(len(fact.value) <= 300 for fact in facts)
    rng = Random(1)
    drawn = (REFERENCE.scenario(rng) for _ in range(400))
    words = sorted(sum(len(f"{f.name} {f.value}".split()) for f in DOMAIN.facts(s.state, s.action)) for s in drawn)
    assert words[360] <= 90


def test_explanations_name_limits_questions_and_sooner_care() -> None:
    sick = proposal(vital_signs={"resp_rate": 26, "sbp": 95}, chief_complaint="chest pain")
    factors = DOMAIN.risk_factors(sick, ())
    assert [f.name for f in factors if f.exceeded] == ["NEWS2", "respiratory rate", "systolic pressure"]
    assert all(f.source for f in factors)
    assert [a.kind for a in DOMAIN.alternatives(sick)] == ["call_911", "ed_now"]
    assert 3 <= len(DOMAIN.questions(sick.state, None)) <= 5


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_every_example_is_a_valid_case(case: dict[str, Any]) -> None:
    asked = case["proposal"]
    proposed = proposal(Action.model_validate(asked["action"]), **asked["state"])
    assert [hit.rule for hit in DOMAIN.hard_rules(proposed)][:1] == case["record"]["rules"][:1]
    assert (case["verdict"]["reason"] != "not_high_impact") is DOMAIN.high_impact(proposed.action)
    for step in case["world"]:
        assert DOMAIN.outcomes[step["outcome"]] and set(step["probabilities"]) <= set(DOMAIN.outcomes.names)
        assert sum(step["probabilities"].values()) == pytest.approx(1)
    assert case.get("twin_of") in {None, *(other["name"] for other in CASES)}


def test_the_made_history_is_as_risky_as_it_says_and_widely_spread() -> None:
    rng, told, true, endings = Random(11), Counter[int](), Counter[int](), Counter[str]()
    count, gated = Counter[int](), []
    for number in range(1500):
        scenario = REFERENCE.scenario(rng)
        risk = REFERENCE.risk(rng, scenario, 5, 80)
        outcomes = [step.outcome for step in REFERENCE.trajectory(rng, scenario, 5, f"t{number}").transitions]
        threshold = DOMAIN.adverse_from(scenario.action)
        bin_ = 0 if risk < 0.1 else 1 if risk < 0.4 else 2 if risk < 0.7 else 3
        count[bin_] += 1
        told[bin_] += risk  # type: ignore[assignment]
        true[bin_] += any(DOMAIN.outcomes[name].severity >= threshold for name in outcomes)
        endings[outcomes[-1]] += 1
        if DOMAIN.high_impact(scenario.action):
            gated.append(risk)
    for bin_, cases in count.items():
        assert true[bin_] / cases == pytest.approx(told[bin_] / cases, abs=0.07)
    assert 0.38 < sum(risk < 0.1 for risk in gated) / len(gated) < 0.55
    assert 0.22 < sum(risk > 0.4 for risk in gated) / len(gated) < 0.42
    assert max(gated) > 0.9
    assert (endings["ICU"] + endings["death"]) / 1500 < 0.04


def test_the_same_call_is_safer_the_sooner_it_is_seen() -> None:
    from dataclasses import replace

    rng = Random(5)
    scenario = next(s for s in iter(lambda: REFERENCE.scenario(rng), None) if REFERENCE.risk(rng, s, 5, 50) > 0.7)
    ladder = [
        replace(scenario, said=replace(scenario.said, intent=kind)) for kind in ("home_care", "urgent_care", "ed_now")
    ]
    risks = [REFERENCE.risk(Random(1), s, 5, 400) for s in ladder]
    assert risks == sorted(risks, reverse=True) and risks[0] > 3 * risks[2]


def _banks(node: Any, wording: str) -> set[str]:
    if isinstance(node, list):
        return set()
    found = set(node.get(wording, ())) if isinstance(node, dict) else set()
    return (
        found.union(*(_banks(child, wording) for child in node.values() if isinstance(child, dict))) if node else found
    )


def test_held_out_wording_and_families_stay_held_out() -> None:
    seen, unseen = _banks(phrases(), "seen"), _banks(phrases(), "unseen")
    own = {phrase for phrase in unseen if len(phrase) > 11}
    assert seen & unseen <= {""} and len(own) > 150
    rng = Random(2)
    drawn = [REFERENCE.scenario(rng) for _ in range(400)]
    text = json.dumps([s.state.model_dump() for s in drawn]).lower() + " ".join(s.action.text for s in drawn).lower()
    assert not [phrase for phrase in own if phrase.lower() in text]
    assert not {"eye", "pregnancy"} & {s.family for s in drawn}
    assert {REFERENCE.scenario(rng, Split.unseen_family).family for _ in range(60)} == {"eye", "pregnancy"}


def test_no_text_of_the_made_history_names_its_hidden_cause() -> None:
    rng = Random(3)
    trials = [REFERENCE.trajectory(rng, REFERENCE.scenario(rng), 5, str(n)) for n in range(300)]
    text = json.dumps([[t.next_state.model_dump(), t.observation] for trial in trials for t in trial.transitions])
    named = re.compile(
        r"infarct|embol|sepsis|meningitis|appendic|ketoacid|ectopic|subarachnoid|anaphyl|pneumonia|\bstroke|migraine",
        re.IGNORECASE,
    )
    assert named.search(text) is None
    hidden = {cause for cause in _tables()["causes"] if "_" in cause}
    assert not [cause for cause in hidden if cause in text]


def test_a_draw_repeats_from_its_seed() -> None:
    first, second = (
        [REFERENCE.trajectory(r, REFERENCE.scenario(r), 5, "x") for _ in range(5)] for r in (Random(9), Random(9))
    )
    assert first == second
