"""Construction safety, as a field that can be guarded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.domains.safety import explain, grounding, rules
from service.domains.safety.forecast import SafetyChanges
from service.domains.safety.outcomes import SCALE
from service.domains.safety.policy import POLICY, SAFE_KINDS
from service.domains.safety.state import CrewStatus, Environment, SafetyState
from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.domain import Fact
from service.vocabulary.forecast import Changes, Forecast
from service.vocabulary.outcome import OutcomeScale
from service.vocabulary.proposal import Action, Proposal, State
from service.vocabulary.redaction import Redaction, redactions
from service.vocabulary.rollout import Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Assessment, RiskFactor, RiskPolicy, RuleHit

KEPT, STEP_HOURS, MAX_HOURS, MAX_GUST = 8, 0.5, 48.0, 120.0
RESTING = ("hydrate_and_rest", "stop_work", "postpone")
WORKING = Action(kind="proceed", text="Carry on.")
HOLDING = Action(kind="observe", text="Keep holding and watch.")

REDACTIONS = redactions(Path(__file__).with_name("redactions.yaml"))


@dataclass(frozen=True)
class Safety:
    """A building site: what half an hour of work, or of waiting, leads to."""

    name: str = "safety"
    briefing: str = (
        "Construction safety: what the next hours of work on a site lead to, from weather, crew, equipment and action."
    )
    outcomes: OutcomeScale = SCALE
    policy: RiskPolicy = POLICY
    state_type: type[State] = SafetyState
    forecast_type: type[Changes] = SafetyChanges
    redactions: tuple[Redaction, ...] = REDACTIONS

    def high_impact(self, action: Action) -> bool:
        """Everything but looking, telling, resting and holding; and those too when their text orders the work done."""
        return rules.in_work(action)

    def adverse_from(self, action: Action) -> Severity:
        return self.policy.adverse_from

    def facts(self, state: SafetyState, action: Action) -> Sequence[Fact]:
        return grounding.facts(state, action)

    def advance(self, state: SafetyState, action: Action, forecast: Forecast) -> SafetyState:
        """Half an hour later; the first action is remembered, since its effect lasts."""
        changes: SafetyChanges = forecast.changes
        started = not state.steps_elapsed
        return state.model_copy(
            update={
                "environmental_conditions": _weather(state.environmental_conditions, changes),
                "crew_status": _crew(state.crew_status, action, changes),
                "active_hazards": _hazards(state.active_hazards, changes.hazard, forecast.outcome),
                "recent_observations": (*state.recent_observations, forecast.observation)[-KEPT:]
                if forecast.observation
                else state.recent_observations,
                "steps_elapsed": min(state.steps_elapsed + 1, 1_000),
                "started_kind": action.kind if started else state.started_kind,
                "work_started": grounding.clip(action.text) if started else state.work_started,
            }
        )

    def continuation(self, state: SafetyState) -> Action:
        """Work goes on as it was started; what was held stays held."""
        return HOLDING if state.started_kind in SAFE_KINDS else WORKING

    def anchor_key(self, state: SafetyState, action: Action) -> AnchorKey:
        return grounding.anchor_key(state, action)

    def blend(self, imagined: SafetyState, anchor: Anchor) -> SafetyState:
        return grounding.blend(imagined, anchor)

    def hard_rules(self, proposal: Proposal) -> Sequence[RuleHit]:
        return rules.hard_rules(proposal)

    def risk_factors(self, proposal: Proposal, adverse: Sequence[Rollout]) -> Sequence[RiskFactor]:
        return explain.risk_factors(proposal, adverse)

    def alternatives(self, proposal: Proposal) -> Sequence[Action]:
        return explain.alternatives(proposal)

    def questions(self, state: SafetyState, assessment: Assessment | None) -> Sequence[str]:
        return explain.questions(state, assessment)


def _weather(weather: Environment, changes: SafetyChanges) -> Environment:
    if changes.gust_mph is None:
        return weather
    gust = min(max(float(changes.gust_mph), 0.0), MAX_GUST)
    wind = None if weather.wind_mph is None else min(weather.wind_mph, gust)
    return weather.model_copy(update={"gust_mph": gust, "wind_mph": wind})


def _crew(crew: CrewStatus, action: Action, changes: SafetyChanges) -> CrewStatus:
    hours = None if crew.hours_on_site is None else min(crew.hours_on_site + STEP_HOURS, MAX_HOURS)
    rest = None if crew.minutes_since_break is None else min(crew.minutes_since_break + 60 * STEP_HOURS, 1440.0)
    return crew.model_copy(
        update={
            "hours_on_site": hours,
            "minutes_since_break": 0.0 if action.kind in RESTING and rest is not None else rest,
            "symptoms": changes.symptoms or crew.symptoms,
            "briefed": True if action.kind == "brief" else crew.briefed,
        }
    )


def _hazards(active: tuple[str, ...], hazard: str, outcome: str) -> tuple[str, ...]:
    if outcome == "risk_mitigated":
        return active[:-1]
    return (*active, hazard)[-KEPT:] if hazard and hazard not in active else active
