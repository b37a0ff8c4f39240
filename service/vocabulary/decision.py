"""What was ruled, on what evidence, and what a supervisor made of it: the answer on the wire and in the ledger."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import Action, Asker, Bound
from service.vocabulary.verdict import Basis, Explanation, Reason, Ruling


class Mode(StrEnum):
    """Whether everything the service would look at was there; a shadow, whatever was there, is recorded and not enforced."""

    normal = "normal"
    degraded = "degraded"
    shadow = "shadow"


class Asked(Frozen):
    """The proposal as it was put, state as JSON."""

    state: dict[str, Any]
    action: Action
    asker: Asker
    bound: Bound | None = None


class Risk(Frozen):
    """P(adverse within the horizon), its central 90 % interval, and the limit it is held to. Probabilities in [0, 1]."""

    adverse_probability: float
    interval: tuple[float, float]
    model_interval: tuple[float, float] | None = Field(
        default=None, description="Within which nine of ten true risks lay where this one was foretold, in validation"
    )
    threshold: float
    critical_probability: float
    critical_threshold: float
    outcomes: dict[str, float] = Field(description="P of each adverse outcome, as read: before calibration")


class RolloutCounts(Frozen):
    """How many futures were asked for, ran to their own end, went wrong, were stopped, or could not be read."""

    requested: int
    completed: int
    adverse: int
    cut_short: int
    faults: int
    tokens: int = Field(default=0, description="What they took to write")


class FutureStep(Frozen):
    """One imagined step, for people."""

    action: str
    outcome: str
    adverse_probability: float
    changes: dict[str, Any]
    observation: str
    grounded_by: str | None


class FutureStory(Frozen):
    """One imagined future."""

    seed: int
    ending: str
    steps: tuple[FutureStep, ...]


class OverrideTerms(Frozen):
    """What it takes to go ahead all the same."""

    approvals_required: int
    expires_at: AwareDatetime


class ModelStory(Frozen):
    """Which world model answered, and under which policy."""

    engine: str
    checkpoint: str
    codec: str
    policy: str
    anchors: str


class OverrideRuling(StrEnum):
    """What became of a decision: a person approves or denies; the clock, another decision or another state does the rest."""

    approved = "approved"
    denied = "denied"
    expired = "expired"
    superseded = "superseded"
    void = "void"


class OverrideCode(StrEnum):
    """Why, in a word that can be counted. The last three are the service's own."""

    mitigated = "mitigated"
    risk_accepted = "risk_accepted"
    evidence_wrong = "evidence_wrong"
    emergency = "emergency"
    unsafe = "unsafe"
    other = "other"
    expired = "expired"
    edited = "edited"
    state_changed = "state_changed"


class Override(Frozen):
    """A ruling on a decision, for a reason, under a supervisor's own name: empty where nobody ruled.

    `successor` is the decision that took the place of one that was superseded.
    """

    decision_id: str
    ruling: OverrideRuling
    code: OverrideCode = OverrideCode.other
    reason: str
    supervisor: str
    at: AwareDatetime
    successor: str | None = None


class Decision(Frozen):
    """A recorded verdict. `override` is what it would take, `overridden` what was then ruled; `permit` is never kept.

    `approvals` are those that were given, be they enough or not; `redacted` says what was struck out before it was kept.
    """

    decision_id: str
    at: datetime
    domain: str
    ruling: Ruling
    reason: Reason
    basis: Basis
    mode: Mode
    risk: Risk | None
    rollouts: RolloutCounts | None
    explanation: Explanation
    override: OverrideTerms | None
    approvals: tuple[Override, ...] = ()
    overridden: Override | None = None
    supersedes: str | None = None
    permit: str | None = None
    model: ModelStory
    proposal: Asked
    redacted: tuple[str, ...] = ()
    timing_ms: dict[str, float]
    futures: tuple[FutureStory, ...] | None = None
