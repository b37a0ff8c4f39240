"""The smallest field of work: a kettle, to test what must hold in every domain."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.domain import Fact
from service.vocabulary.forecast import Changes, Forecast
from service.vocabulary.outcome import Outcome, OutcomeScale
from service.vocabulary.proposal import Action, Proposal, State
from service.vocabulary.redaction import Redaction
from service.vocabulary.rollout import Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Assessment, RiskFactor, RiskPolicy, RuleHit


class KettleState(State):
    category: str = "kitchen"
    note: str = "a full kettle stands on the stove"
    turn: int = 0


class KettleChanges(Changes):
    note: str | None = None


SCALE = OutcomeScale(
    (
        Outcome("tea", Severity.none, 1.0, True, "the tea is served"),
        Outcome("waiting", Severity.none, 0.1, False, "the water is not boiling yet"),
        Outcome("scald", Severity.critical, -1.0, True, "somebody is scalded"),
    )
)


class KettleDomain:
    name = "kettle"
    briefing = "Boiling water for tea."
    outcomes = SCALE
    policy = RiskPolicy(
        threshold=0.3,
        critical_threshold=0.1,
        adverse_from=Severity.serious,
        rollouts=5,
        max_rollouts=10,
        horizon=3,
        anchor_interval=2,
        quorum=3,
        budget_ms=1_000,
        temperature=1.0,
    )
    state_type = KettleState
    forecast_type = KettleChanges
    redactions: tuple[Redaction, ...] = ()

    def high_impact(self, action: Action) -> bool:
        return action.kind != "look"

    def adverse_from(self, action: Action) -> Severity:
        return self.policy.adverse_from

    def facts(self, state: Any, action: Action) -> Sequence[Fact]:
        return (Fact("action", action.kind), Fact("note", state.note, free=True))

    def advance(self, state: Any, action: Action, forecast: Forecast) -> Any:
        note = forecast.changes.note or state.note
        return state.model_copy(update={"note": note, "turn": state.turn + 1})

    def continuation(self, state: Any) -> Action:
        return Action(kind="wait")

    def anchor_key(self, state: Any, action: Action) -> AnchorKey:
        return AnchorKey(state.category, state.turn, f"{state.note}. {action.kind} {action.text}".strip())

    def blend(self, imagined: Any, anchor: Anchor) -> Any:
        return imagined

    def hard_rules(self, proposal: Proposal) -> Sequence[RuleHit]:
        return ()

    def risk_factors(self, proposal: Proposal, adverse: Sequence[Rollout]) -> Sequence[RiskFactor]:
        return ()

    def alternatives(self, proposal: Proposal) -> Sequence[Action]:
        return (Action(kind="wait"),)

    def questions(self, state: Any, assessment: Assessment | None) -> Sequence[str]:
        return ()


def anchor(id: str, text: str = "a full kettle stands on the stove. pour", **changed: Any) -> Anchor:
    """A recorded kettle; `category`, `turn` and any of an anchor's own fields may be changed."""
    fields: dict[str, Any] = {
        "domain": "kettle",
        "when": datetime(2026, 3, 1, 8, 30, tzinfo=UTC),
        "source": "kitchen log",
        "action_kind": "pour",
        "outcome": "scald",
        "next_outcome": "scald",
        "state": {"category": "kitchen", "note": text, "turn": 0},
        "changes": {"note": f"what followed {id}"},
        "observation": f"observed in {id}",
        "summary": f"kettle {id}",
    }
    key = AnchorKey(changed.pop("category", "kitchen"), changed.pop("turn", 0), text)
    return Anchor(id=id, key=key, **(fields | changed))
