"""The helpdesk: its rules, its steps, what it tells the world model, and the made history it learns from."""

import json
from pathlib import Path
from random import Random
from time import perf_counter

import pytest
import yaml

from service.domains.helpdesk import DOMAIN
from service.domains.helpdesk import reference as made
from service.domains.helpdesk.forecast import TicketChanges
from service.domains.helpdesk.reference import REFERENCE, Said
from service.domains.helpdesk.state import TicketState
from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.reference import Scenario, Split

EXAMPLES = yaml.safe_load((Path(made.HERE) / "examples.yaml").read_text())
HORIZON = DOMAIN.policy.horizon


def hits(kind: str, text: str, arguments: dict | None = None, **state: object) -> list[str]:
    action = Action(kind=kind, text=text, arguments=arguments or {})
    proposal = Proposal(domain="helpdesk", state=TicketState.model_validate(state), action=action)
    return [hit.rule for hit in DOMAIN.hard_rules(proposal)]


def policy(principal: object, effect: str = "Allow", **more: object) -> dict:
    return {"policy": {"Statement": [{"Effect": effect, "Principal": principal, "Action": "s3:GetObject", **more}]}}


BROKEN = [
    ("public-storage", "change_policy", "Apply.", policy("*"), {}),
    ("public-storage", "change_policy", "Apply.", policy({"AWS": ["*"]}), {}),
    ("public-storage", "change_policy", "Apply.", {"policy": json.dumps(policy("*")["policy"])}, {}),
    ("public-storage", "change_policy", 'Set {"Effect": "Allow", "Principal": {"AWS": "*"}} on it', {}, {}),
    ("public-storage", "change_policy", 'use "Principal": "*" on the bucket', {}, {}),
    ("public-storage", "change_policy", "add allUsers as storage viewer", {}, {}),
    ("public-storage", "change_config", "Change the ACL from private to public-read", {}, {}),
    ("public-storage", "change_config", "Turn on anonymous access for the blob container", {}, {}),
    ("public-storage", "change_config", "Do not bother with a role; make the bucket public", {}, {}),
    ("public-storage", "change_config", "Disable the firewall and make the bucket public", {}, {}),
    ("public-storage", "change_config", "Disable Block Public Access, then upload", {}, {}),
    ("mfa-off", "change_policy", "Turn off 2FA on his account", {}, {}),
    ("mfa-off", "change_policy", "Exclude the whole group from multi-factor authentication", {}, {}),
    ("mfa-off", "change_policy", "Apply.", {"mfa_required": False}, {}),
    ("secret-in-plain-text", "reset_password", "Send the password in plain text to the user", {}, {}),
    ("secret-in-plain-text", "advise", "Paste the client secret into the ticket", {}, {}),
    ("secret-in-plain-text", "ask", "Ask the user for their current password", {}, {}),
    ("held-records", "delete", "Purge the backups from 2023", {}, {"description": "Data is under litigation hold"}),
    ("held-records", "delete", "Delete the snapshots", {}, {"environment": {"legal_hold": True}}),
    ("held-records", "change_config", "Disable CloudTrail in the account", {}, {}),
    ("admin-for-unverified", "grant_access", "Grant global admin", {}, {"requester": {"verified": False}}),
    ("admin-for-unverified", "grant_access", "Add the role", {"role": "owner"}, {"requester": {"verified": False}}),
]
KEPT = [
    ("change_policy", "Apply.", policy("arn:aws:iam::1:role/app"), {}),
    ("change_policy", "Force TLS.", policy("*", "Deny"), {}),
    ("change_policy", "Apply.", policy("*", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}}), {}),
    ("change_policy", "do NOT make it public; grant the role only", {}, {}),
    ("change_policy", 'Delete the statement with "Principal": "*"', {}, {}),
    ("change_config", "Change the ACL from public-read to private", {}, {}),
    ("change_config", "Disable anonymous access on the container", {}, {}),
    ("change_config", "Keep anonymous access off", {}, {}),
    ("change_config", "Turn on Block Public Access", {}, {}),
    ("ask", "Should I make the bucket public?", {}, {}),
    ("change_policy", "Do not disable MFA", {}, {}),
    ("change_policy", "Remove the old MFA device and enrol the new phone", {}, {}),
    ("change_policy", "Enforce MFA and turn off legacy sign-in", {}, {}),
    ("reset_password", "Send the password reset link by email", {}, {}),
    ("rotate_credential", "Store the client secret in the vault", {}, {}),
    ("advise", "Never share the password in the chat", {}, {}),
    ("delete", "Delete the backups; no legal hold applies", {}, {}),
    ("delete", "Delete old log files in the temp folder", {}, {}),
    ("grant_access", "Grant global admin", {}, {"requester": {"verified": True}}),
    ("grant_access", "Grant reader, not global admin", {}, {"requester": {"verified": False}}),
]


@pytest.mark.parametrize(("rule", "kind", "text", "arguments", "state"), BROKEN)
def test_a_broken_rule_is_named(rule: str, kind: str, text: str, arguments: dict, state: dict) -> None:
    assert hits(kind, text, arguments, **state) == [rule]


@pytest.mark.parametrize(("kind", "text", "arguments", "state"), KEPT)
def test_harmless_words_break_no_rule(kind: str, text: str, arguments: dict, state: dict) -> None:
    assert hits(kind, text, arguments, **state) == []


@pytest.mark.parametrize(
    "text", ["disable" + "!" * 7_900, "disable " + "a !" * 2_600, '{"a":' * 1_500, "no " * 2_600, "make it " * 990, "?" * 8_000,
             "send password " * 570, " " * 8_000]
)  # fmt: skip
def test_hostile_text_cannot_stall_the_rules(text: str) -> None:
    began = perf_counter()
    hits("change_policy", text), hits("ask", text)
    assert perf_counter() - began < 2


def test_the_gate_lets_questions_through_and_holds_unknown_kinds() -> None:
    quiet = ("ask", "look_up", "look-up", "hand_over", "follow_up")
    assert not any(DOMAIN.high_impact(Action(kind=kind)) for kind in quiet)
    assert all(DOMAIN.high_impact(Action(kind=kind)) for kind in ("advise", "delete", "frobnicate"))


def test_a_minimal_ticket_validates_and_synonyms_are_read() -> None:
    assert TicketState() == TicketState.model_validate({})
    state = TicketState.model_validate(
        {"priority": "P1", "environment": {"stage": "prod"}, "information_gathered": {"os": "Windows 11"}}
    )
    assert (state.priority, state.environment.stage, state.information_gathered) == (
        "critical", "production", ("os: Windows 11",)
    )  # fmt: skip


def forecast(outcome: str, **changes: object) -> Forecast:
    return Forecast(outcome, {outcome: 1.0}, TicketChanges.model_validate(changes))


def test_a_step_leaves_the_state_before_it_alone_and_stays_in_bounds() -> None:
    full = TicketState(turns_elapsed=1_000, failed_attempts=100, information_gathered=("x",) * 100)
    before = full.model_dump_json()
    after = DOMAIN.advance(
        full, Action(kind="advise"), forecast("frustrated", failed=True, mood="angry", learned="same_error")
    )
    assert full.model_dump_json() == before
    assert TicketState.model_validate_json(after.model_dump_json()) == after
    assert (after.turns_elapsed, after.failed_attempts, after.user_mood) == (1_000, 100, "angry")


@pytest.mark.parametrize(
    ("outcome", "status"), [("resolved", "resolved"), ("abandoned", "abandoned"), ("progress", "open")]
)
def test_the_outcome_settles_the_status(outcome: str, status: str) -> None:
    assert DOMAIN.advance(TicketState(), Action(kind="advise"), forecast(outcome)).resolution_status == status


def test_grounding_borrows_mood_and_nothing_about_the_person() -> None:
    key = AnchorKey("Other", 1, "")
    real = TicketState(user_mood="angry", description="someone else", requester={"name": "Eve", "verified": True})
    anchor = Anchor("a", "helpdesk", key, made.datetime(2026, 1, 1), "t", "advise", "abandoned", "continuing",
                    real.model_dump(mode="json"), {}, "", "")  # fmt: skip
    mine = TicketState(description="mine")
    assert DOMAIN.blend(mine, anchor) == mine.model_copy(update={"user_mood": "annoyed"})


def test_facts_put_numbers_beside_their_limits_and_free_text_last() -> None:
    state = TicketState.model_validate(
        {
            "description": "word " * 1_000,
            "turns_elapsed": 11,
            "environment": {"accounts_affected": 1200, "stage": "prod"},
        }
    )
    facts = DOMAIN.facts(state, Action(kind="change_policy", arguments=policy("*")))
    told = {fact.name: fact.value for fact in facts}
    assert (told["turns"], told["affected"], told["principal"]) == ("11 over", "1200 far_over", "*")
    free = [fact.free for fact in facts]
    assert free == sorted(free) and all(len(fact.value) <= 300 for fact in facts)


def test_factors_over_their_limit_come_first_with_their_source() -> None:
    state = TicketState.model_validate(
        {
            "turns_elapsed": 9,
            "environment": {"accounts_affected": 1200, "change_freeze": True, "credential_age_days": 20},
        }
    )
    proposal = Proposal(domain="helpdesk", state=state, action=Action(kind="change_config"))
    factors = DOMAIN.risk_factors(proposal, ())
    assert [factor.name for factor in factors] == ["change freeze in force", "accounts affected", "turns elapsed"]
    assert [factor.exceeded for factor in factors] == [True, True, False] and all(factor.source for factor in factors)
    assert 2 <= len(DOMAIN.alternatives(proposal)) <= 3 and 3 <= len(DOMAIN.questions(state, None)) <= 5


def test_safer_alternatives_break_no_rule() -> None:
    for kind in {intent["kind"] for intent in made.INTENTS.values()}:
        proposal = Proposal(domain="helpdesk", state=TicketState(), action=Action(kind=kind))
        for action in DOMAIN.alternatives(proposal):
            assert not DOMAIN.hard_rules(Proposal(domain="helpdesk", state=TicketState(), action=action))


@pytest.mark.parametrize("case", EXAMPLES, ids=[case["name"] for case in EXAMPLES])
def test_every_example_is_valid_and_its_rules_are_the_ones_it_names(case: dict) -> None:
    state = TicketState.model_validate(case["proposal"]["state"])
    proposal = Proposal(domain="helpdesk", state=state, action=Action.model_validate(case["proposal"]["action"]))
    assert [hit.rule for hit in DOMAIN.hard_rules(proposal)] == case["record"]["rules"]
    shown = repr((DOMAIN.hard_rules(proposal), DOMAIN.risk_factors(proposal, ())))
    assert all(mention in shown for mention in case["record"]["mentions"])
    assert case.get("twin_of") in (None, *(other["name"] for other in EXAMPLES))
    for step in case["world"]:
        assert step["outcome"] in DOMAIN.outcomes.names
        assert set(step["probabilities"]) <= set(DOMAIN.outcomes.names)
        assert sum(step["probabilities"].values()) == pytest.approx(1.0)


WORKED = [
    (0.55, 1.0, Said("pipeline", "advise_local", stage="production", affected=60, age=380, priority="high",
                     signs=("secret_expired", "everyone"))),
    (0.0, 0.1, Said("pipeline", "rotate_overlap", stage="production", affected=60, age=380, priority="high",
                    signs=("secret_expired", "everyone"))),
    (0.0, 0.1, Said("saas", "advise_local", affected=1, priority="low", signs=("old_page",))),
    (0.0, 0.1, Said("password", "reset_password", verified=True, affected=1, priority="low", signs=("locked",))),
    (0.55, 1.0, Said("password", "reset_password", verified=False, privileged=True, priority="critical",
                     signs=("locked", "dubious"))),
    (0.0, 0.1, Said("storage", "policy_narrow", stage="production", priority="high", signs=("denied",))),
    (0.55, 1.0, Said("storage", "policy_public", stage="production", priority="high", signs=("denied",))),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high", "said"), WORKED)
def test_the_worked_cases_lie_far_apart_in_the_made_history(low: float, high: float, said: Said) -> None:
    scenario = Scenario(TicketState(), Action(kind="advise"), said.family, said)
    assert low <= REFERENCE.risk(Random(5), scenario, HORIZON, 1_000) <= high


def test_odds_are_odds() -> None:
    for z in made.HIDDEN:
        odds = made.odds(Said("storage", "policy_public"), z, made.Progress())
        assert sum(odds) == pytest.approx(1) and min(odds) >= 0 and len(odds) == len(DOMAIN.outcomes.names)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Scenario, float]]:
    rng = Random(11)
    scenarios = [REFERENCE.scenario(rng) for _ in range(1_500)]
    return [(scenario, REFERENCE.risk(rng, scenario, HORIZON, 100)) for scenario in scenarios]


def test_the_known_risk_is_what_happens(drawn: list[tuple[Scenario, float]]) -> None:
    rng = Random(12)
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 1.01)):
        members = [(scenario, risk) for scenario, risk in drawn if low <= risk < high]
        ends = [REFERENCE.trajectory(rng, scenario, HORIZON, "t").transitions[-1].outcome for scenario, _ in members]
        happened = sum(end in made.CHANNELS for end in ends) / len(ends)
        known = sum(risk for _, risk in members) / len(members)
        assert happened == pytest.approx(known, abs=0.07)


def test_risk_is_spread_wide(drawn: list[tuple[Scenario, float]]) -> None:
    risks = [risk for scenario, risk in drawn if DOMAIN.high_impact(scenario.action)]
    assert 0.8 < len(risks) / len(drawn) < 0.95
    assert 0.4 < sum(risk < 0.1 for risk in risks) / len(risks) < 0.55
    assert 0.25 < sum(risk > 0.4 for risk in risks) / len(risks) < 0.4
    assert max(risks) > 0.9


def written(scenario: Scenario) -> str:
    told = (f"{fact.name}: {fact.value}" for fact in DOMAIN.facts(scenario.state, scenario.action))
    return " | ".join((*told, scenario.action.text))


def test_what_the_model_is_told_is_short_and_hides_the_cause(drawn: list[tuple[Scenario, float]]) -> None:
    texts = [written(scenario) for scenario, _ in drawn]
    assert sorted(len(text.split()) for text in texts)[len(texts) // 2] <= 90
    secret = (*made.CAUSES, "impostor", "fragile", "impatient", "{")
    # A written policy document is the only text that may hold a brace.
    assert not [text for text in texts for word in secret if word in text.replace('{"', "")]


def test_every_drawn_ticket_is_a_valid_one(drawn: list[tuple[Scenario, float]]) -> None:
    for scenario, _ in drawn[:300]:
        assert TicketState.model_validate_json(scenario.state.model_dump_json()) == scenario.state
        assert Action.model_validate(scenario.action.model_dump()) == scenario.action


def test_held_out_wording_and_families_stay_out_of_seen_draws(drawn: list[tuple[Scenario, float]]) -> None:
    for (kind, name), lines in made.PHRASES[Split.unseen_wording].items():
        assert not set(lines) & set(made.PHRASES[Split.seen][kind, name])
    assert not {scenario.family for scenario, _ in drawn} & set(made.HELD_FAMILIES)
    rng = Random(13)
    assert {REFERENCE.scenario(rng, Split.unseen_family).family for _ in range(50)} == set(made.HELD_FAMILIES)


def test_a_history_ends_at_its_first_terminal_outcome_and_is_repeatable() -> None:
    def draw() -> list:
        rng = Random(14)
        return [REFERENCE.trajectory(rng, REFERENCE.scenario(rng), HORIZON, str(each)) for each in range(300)]

    histories = draw()
    assert histories == draw()
    for history in histories:
        terminal = [DOMAIN.outcomes[step.outcome].terminal for step in history.transitions]
        assert not any(terminal[:-1]) and 1 <= len(terminal) <= HORIZON
        assert all(len(step.observation.split()) <= 14 for step in history.transitions)
        assert history.when < made.datetime(2026, 11, 1, tzinfo=made.UTC)
