"""Medical triage, as the engine rooms see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.domains.triage import explain, grounding, policy, rules
from service.domains.triage.forecast import TriageChanges
from service.domains.triage.outcomes import OUTCOMES
from service.domains.triage.state import TriageState
from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.domain import Fact
from service.vocabulary.forecast import Forecast
from service.vocabulary.outcome import OutcomeScale
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.redaction import Redaction, redactions
from service.vocabulary.rollout import Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Assessment, RiskFactor, RiskPolicy, RuleHit

STEP_HOURS = 10.0
_CONTINUES = {
    "home_care": "Carry on at home as advised.",
    "clinic_48h": "Wait for the clinic appointment as advised.",
    "urgent_care": "Carry on with urgent care as arranged.",
    "ed_now": "Carry on with emergency department care.",
    "call_911": "Carry on with ambulance and hospital care.",
    "ask": "Keep the caller on the line.",
}

REDACTIONS = redactions(Path(__file__).with_name("redactions.yaml"))


@dataclass(frozen=True, slots=True)
class Triage:
    """Under-triage, before it happens."""

    name: str = "triage"
    briefing: str = (
        "A caller is ill and is advised where to be seen, and how soon. What follows over the next two days?"
    )
    outcomes: OutcomeScale = OUTCOMES
    policy: RiskPolicy = policy.POLICY
    state_type: type[TriageState] = TriageState
    forecast_type: type[TriageChanges] = TriageChanges
    redactions: tuple[Redaction, ...] = REDACTIONS

    def high_impact(self, action: Action) -> bool:
        return policy.high_impact(action)

    def adverse_from(self, action: Action) -> Severity:
        """An outcome is adverse when it is worse than the disposition was ready for."""
        return policy.adverse_from(action)

    def facts(self, state: TriageState, action: Action) -> Sequence[Fact]:
        return grounding.facts(state, action)

    def advance(self, state: TriageState, action: Action, forecast: Forecast) -> TriageState:
        """Ten hours later: the first advice stays in force, the illness has moved on."""
        changes: TriageChanges = forecast.changes
        return state.model_copy(
            update={
                "elapsed_hours": min(state.elapsed_hours + STEP_HOURS, 2_000.0),
                "disposition": state.disposition or policy.disposition(action)[:64],
                "plan": state.plan or action.text[:300],
                "symptom_details": _symptoms(state, changes),
                "vital_signs": _vitals(state, changes),
                "follow_up": (*state.follow_up, forecast.observation[:300])[-40:]
                if forecast.observation
                else state.follow_up,
            }
        )

    def continuation(self, state: TriageState) -> Action:
        """The advice in force goes on; advice in an unknown word is lived as home care."""
        kind = state.disposition if state.disposition in _CONTINUES else "home_care"
        return Action(kind=kind, text=_CONTINUES[kind])

    def anchor_key(self, state: TriageState, action: Action) -> AnchorKey:
        return grounding.anchor_key(state, action)

    def blend(self, imagined: TriageState, anchor: Anchor) -> TriageState:
        return grounding.blend(imagined, anchor)

    def hard_rules(self, proposal: Proposal) -> Sequence[RuleHit]:
        return rules.hard_rules(proposal)

    def risk_factors(self, proposal: Proposal, adverse: Sequence[Rollout]) -> Sequence[RiskFactor]:
        return explain.risk_factors(proposal, adverse)

    def alternatives(self, proposal: Proposal) -> Sequence[Action]:
        return explain.alternatives(proposal)

    def questions(self, state: TriageState, assessment: Assessment | None) -> Sequence[str]:
        return explain.questions(state)


def _symptoms(state: TriageState, changes: TriageChanges) -> object:
    told = state.symptom_details
    update: dict[str, object] = {}
    if changes.course:
        update["course"] = changes.course
    if changes.pain is not None:
        update["severity"] = float(min(max(changes.pain, 0), 10))
    if changes.new_sign and changes.new_sign not in told.associated:
        update["associated"] = (*told.associated, changes.new_sign)[-40:]
    return told.model_copy(update=update)


def _vitals(state: TriageState, changes: TriageChanges) -> object:
    if changes.heart_rate is None:
        return state.vital_signs
    return state.vitals.model_copy(update={"heart_rate": float(min(max(changes.heart_rate, 20), 250))})
