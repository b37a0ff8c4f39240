"""What the service rules, why, and on what basis."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.vocabulary.severity import Severity


class Ruling(StrEnum):
    """The two answers."""

    approve = "approve"
    escalate = "escalate"


class Reason(StrEnum):
    """Why, as an enum that a dashboard can count."""

    within_tolerance = "within_tolerance"
    not_high_impact = "not_high_impact"
    risk_above_threshold = "risk_above_threshold"
    critical_outcome_likely = "critical_outcome_likely"
    hard_rule = "hard_rule"
    interval_straddles_threshold = "interval_straddles_threshold"
    too_few_rollouts = "too_few_rollouts"
    unfamiliar_situation = "unfamiliar_situation"
    text_driven_optimism = "text_driven_optimism"
    world_model_unavailable = "world_model_unavailable"
    disabled_by_operator = "disabled_by_operator"


class Basis(StrEnum):
    """What the ruling rests on. A failure never looks like a risk."""

    simulated = "simulated"
    history_only = "history_only"
    hard_rule = "hard_rule"
    none = "none"


EVERY_KIND = "*"
RANGES = {
    "max_rollouts": (1, 50),
    "horizon": (1, 20),
    "anchor_interval": (1, 1_000),
    "budget_ms": (20, 30_000),
    "approvals_required": (1, 10),
}
"""What a caller may ask for holds for a policy too; grounded every 1,000 steps is never."""


@dataclass(frozen=True, slots=True)
class RiskPolicy:
    """How much risk a domain tolerates and how hard to look. Probabilities in [0, 1]; `budget_ms` in milliseconds.

    `approvals_required` is how many people it takes to go ahead where a rule is broken or a critical outcome likely; else one.
    `shadow` are the kinds of action that are evaluated and recorded, and not enforced.
    """

    threshold: float
    critical_threshold: float
    adverse_from: Severity
    rollouts: int
    max_rollouts: int
    horizon: int
    anchor_interval: int
    quorum: int
    budget_ms: int
    temperature: float
    approvals_required: int = 1
    version: str = "shipped"
    shadow: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < self.critical_threshold <= self.threshold < 1:
            raise ValueError("0 < critical_threshold <= threshold < 1")
        if not 1 <= self.quorum <= self.rollouts <= self.max_rollouts:
            raise ValueError("1 <= quorum <= rollouts <= max_rollouts")
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{least} <= {name} <= {most}")

    def told(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        return asdict(self) | {"adverse_from": self.adverse_from.name, "shadow": sorted(self.shadow)}

    @property
    def name(self) -> str:
        """Its version and the SHA-256 (the first 12 digits) of the canonical JSON of what it says."""
        canonical = json.dumps(self.told(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return f"{self.version}:{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"

    def shadows(self, kind: str) -> bool:
        """Whether an action of this kind is judged for the record alone."""
        return kind in self.shadow or EVERY_KIND in self.shadow


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the futures say together. The interval is the central 90 % of the adverse probability by their number alone.

    `model_interval` holds the model's own error: where such a risk was foretold, nine of ten true ones lay within.
    """

    requested: int
    completed: int
    adverse: int
    cut_short: int
    faults: int
    adverse_probability: float
    interval: tuple[float, float]
    critical_probability: float
    raw_adverse_probability: float
    outcomes: Mapping[str, float]
    model_interval: tuple[float, float] | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class RiskFactor:
    """An observed value against a limit, whose limit it is, and in how many bad futures it was seen.

    `exceeded` says on which side of the limit the value lies; `source` names the regulation, score or manufacturer's rule.
    """

    name: str
    value: int | float | str
    unit: str
    threshold: int | float | str
    source: str
    exceeded: bool
    seen_in: int = 0


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A rule that simulation cannot override, and whose rule it is."""

    rule: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Precedent:
    """A recorded case like this one whose sequel was adverse."""

    id: str
    when: datetime
    outcome: str
    similarity: float
    summary: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A safer alternative, re-simulated with the same seeds."""

    kind: str
    text: str
    adverse_probability: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Evidence that a supervisor can read."""

    summary: str
    risk_factors: tuple[RiskFactor, ...] = ()
    rules: tuple[RuleHit, ...] = ()
    patterns: tuple[str, ...] = ()
    precedents: tuple[Precedent, ...] = ()
    recommended_action: Recommendation | None = None
    questions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ruling, reason, basis, and what they rest on. Made only through `approve` and `escalate`."""

    ruling: Ruling
    reason: Reason
    basis: Basis
    assessment: Assessment | None
    explanation: Explanation = field(default_factory=lambda: Explanation(""))

    def __post_init__(self) -> None:
        harmless = self.reason in (Reason.within_tolerance, Reason.not_high_impact)
        if harmless is not (self.ruling is Ruling.approve):
            raise ValueError(f"{self.ruling} for {self.reason} contradicts itself")
        if self.reason is Reason.within_tolerance and self.basis is not Basis.simulated:
            raise ValueError("only whole simulated futures are evidence of safety")

    @classmethod
    def approve(cls, reason: Reason, basis: Basis, assessment: Assessment | None = None) -> "Verdict":
        return cls(Ruling.approve, reason, basis, assessment)

    @classmethod
    def escalate(cls, reason: Reason, basis: Basis, assessment: Assessment | None = None) -> "Verdict":
        return cls(Ruling.escalate, reason, basis, assessment)
