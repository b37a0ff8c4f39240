"""What a field must say about itself to be guarded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.forecast import Changes, Forecast
from service.vocabulary.outcome import OutcomeScale
from service.vocabulary.proposal import Action, Proposal, State
from service.vocabulary.redaction import Redaction
from service.vocabulary.rollout import Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Assessment, RiskFactor, RiskPolicy, RuleHit


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing the world model is told. `free` marks text that someone wrote, which the masked reading leaves out."""

    name: str
    value: str
    free: bool = False


class Domain(Protocol):
    """One field of work. Every method is pure: a function of its arguments, without waiting, clock or chance.

    States are instances of `state_type`, changes of `forecast_type`; the engine rooms never look inside either.
    """

    @property
    def name(self) -> str: ...
    @property
    def briefing(self) -> str:
        """What the field is about, in one or two sentences."""

    @property
    def outcomes(self) -> OutcomeScale: ...
    @property
    def policy(self) -> RiskPolicy: ...
    @property
    def state_type(self) -> type[State]: ...
    @property
    def forecast_type(self) -> type[Changes]: ...
    @property
    def redactions(self) -> tuple[Redaction, ...]:
        """What is struck out of a decision before it is kept and answered; the simulation sees what was sent."""

    def high_impact(self, action: Action) -> bool:
        """Whether the action must be simulated at all. An unknown kind is high impact."""

    def adverse_from(self, action: Action) -> Severity:
        """The mildest severity that is a failure of this action."""

    def facts(self, state: Any, action: Action) -> Sequence[Fact]:
        """What the world model is told of a state in which an action is proposed, most telling first."""

    def advance(self, state: Any, action: Action, forecast: Forecast) -> Any:
        """The state after a step."""

    def continuation(self, state: Any) -> Action:
        """What is done next when nobody intervenes."""

    def anchor_key(self, state: Any, action: Action) -> AnchorKey: ...

    def blend(self, imagined: Any, anchor: Anchor) -> Any:
        """The imagined state, pulled towards a real one: its manner and tempo, never facts about a person."""

    def hard_rules(self, proposal: Proposal) -> Sequence[RuleHit]:
        """Rules that simulation cannot override, as broken by the proposal."""

    def risk_factors(self, proposal: Proposal, adverse: Sequence[Rollout]) -> Sequence[RiskFactor]:
        """Observed values against limits, those exceeded first; `adverse` are the futures that went wrong."""

    def alternatives(self, proposal: Proposal) -> Sequence[Action]:
        """Safer actions worth re-simulating, best first."""

    def questions(self, state: Any, assessment: Assessment | None) -> Sequence[str]:
        """What to ask before deciding."""
