"""The helpdesk's signature under the vocabulary's contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.domains.helpdesk import explain, grounding, rules
from service.domains.helpdesk.forecast import TicketChanges
from service.domains.helpdesk.outcomes import OUTCOMES
from service.domains.helpdesk.policy import POLICY
from service.domains.helpdesk.state import Message, TicketState
from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.domain import Fact
from service.vocabulary.forecast import Forecast
from service.vocabulary.outcome import OutcomeScale
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.redaction import Redaction, redactions
from service.vocabulary.rollout import Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Assessment, RiskFactor, RiskPolicy, RuleHit

HISTORY = 200
FOUND = 100
STATUS = {"resolved": "resolved", "escalated": "escalated", "abandoned": "abandoned"}
AFTER_FAILURE = Action(kind="follow_up", text="Ask what still fails and what has changed since.")
AFTER_ANGER = Action(kind="follow_up", text="Apologise and ask whether it works now.")
USUALLY = Action(kind="follow_up", text="Check with the user whether it worked.")

REDACTIONS = redactions(Path(__file__).with_name("redactions.yaml"))


@dataclass(frozen=True)
class Helpdesk:
    """IT support: tickets, accounts, access, and changes to the systems behind them."""

    name: str = "helpdesk"
    briefing: str = (
        "An IT helpdesk agent works on a ticket. Predict what follows its action for the user, the accounts and the "
        "services concerned."
    )
    outcomes: OutcomeScale = OUTCOMES
    policy: RiskPolicy = POLICY
    state_type: type[TicketState] = TicketState
    forecast_type: type[TicketChanges] = TicketChanges
    redactions: tuple[Redaction, ...] = REDACTIONS

    def high_impact(self, action: Action) -> bool:
        return rules.kind_of(action) not in rules.QUIET

    def adverse_from(self, action: Action) -> Severity:
        return self.policy.adverse_from

    def facts(self, state: TicketState, action: Action) -> Sequence[Fact]:
        return grounding.facts(state, action)

    def advance(self, state: TicketState, action: Action, forecast: Forecast) -> TicketState:
        changes: TicketChanges = forecast.changes
        found = (*state.information_gathered, changes.learned) if changes.learned else state.information_gathered
        where = state.environment
        if changes.affected is not None:
            where = where.model_copy(update={"accounts_affected": min(max(changes.affected, 0), 10_000_000)})
        message = Message(role="agent", content=action.text or action.kind)
        return state.model_copy(update={
            "conversation_history": (*state.conversation_history, message)[-HISTORY:],
            "resolution_status": STATUS.get(forecast.outcome, state.resolution_status),
            "information_gathered": found[-FOUND:],
            "turns_elapsed": min(state.turns_elapsed + 1, 1_000),
            "failed_attempts": min(state.failed_attempts + changes.failed, 100),
            "user_mood": changes.mood or state.user_mood,
            "environment": where,
        })  # fmt: skip

    def continuation(self, state: TicketState) -> Action:
        if state.user_mood == "angry":
            return AFTER_ANGER
        return AFTER_FAILURE if state.failed_attempts else USUALLY

    def anchor_key(self, state: TicketState, action: Action) -> AnchorKey:
        return grounding.anchor_key(state, action)

    def blend(self, imagined: TicketState, anchor: Anchor) -> TicketState:
        return grounding.blend(imagined, anchor)

    def hard_rules(self, proposal: Proposal) -> Sequence[RuleHit]:
        return rules.hard_rules(proposal)

    def risk_factors(self, proposal: Proposal, adverse: Sequence[Rollout]) -> Sequence[RiskFactor]:
        return explain.risk_factors(proposal, adverse)

    def alternatives(self, proposal: Proposal) -> Sequence[Action]:
        return explain.alternatives(proposal)

    def questions(self, state: TicketState, assessment: Assessment | None) -> Sequence[str]:
        return explain.questions(state, assessment)
