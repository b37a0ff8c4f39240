"""What the service rules, why, and on what basis."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from service.vocabulary.setting import Setting
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


@dataclass(frozen=True, slots=True)
class RiskPolicy:
    """How much risk a domain tolerates and how hard to look."""

    threshold: Annotated[
        float,
        Field(gt=0, lt=1),
        Setting(
            "The most P(adverse) within the horizon that is approved; its interval must lie below it too",
            "Higher: more harm is approved. Lower: more is escalated needlessly",
            "probability",
        ),
    ]
    critical_threshold: Annotated[
        float,
        Field(gt=0, lt=1),
        Setting(
            "The same for P(critical outcome); at most `threshold`",
            "Higher: a disaster that is unlikely, but not unlikely enough, is approved. Lower: more `critical_outcome_likely`",
            "probability",
        ),
    ]
    adverse_from: Annotated[
        Severity,
        Setting(
            "The mildest outcome that is adverse; triage decides by the disposition",
            "Milder: nuisances are escalated. More severe: lesser harm is no risk at all",
        ),
    ]
    rollouts: Annotated[
        int,
        Field(ge=1),
        Setting(
            "Futures to begin with",
            "Fewer: wider intervals, more `interval_straddles_threshold`. More: slower, and sooner overloaded",
            "futures",
        ),
    ]
    max_rollouts: Annotated[
        int,
        Field(ge=1, le=50),
        Setting(
            "Futures at most, where the interval lies across the threshold and there is time",
            "Fewer: more `interval_straddles_threshold`. More: what is near the threshold takes the whole budget",
            "futures",
        ),
    ]
    horizon: Annotated[
        int,
        Field(ge=1, le=20),
        Setting(
            "How far ahead", "Nearer: harm that comes later is missed. Farther: slower, more futures cut short", "steps"
        ),
    ]
    anchor_interval: Annotated[
        int,
        Field(ge=1, le=1_000),
        Setting(
            "After so many steps a future is grounded in a recorded state; without history it goes no further",
            "Longer: futures stray from what really happens. Unlike when history was indexed: fewer states to ground in",
            "steps",
        ),
    ]
    quorum: Annotated[
        int,
        Field(ge=1),
        Setting(
            "Whole futures that an approval takes; all that are simulated where there are many requests",
            "Higher: more `too_few_rollouts` when futures are slow or unreadable. Lower: approvals rest on less",
            "futures",
        ),
    ]
    budget_ms: Annotated[
        int,
        Field(ge=20, le=30_000),
        Setting(
            "From the request to the recorded answer",
            "Shorter: futures are cut short, then recorded cases stand in (`history_only`), and what cannot be recorded in "
            "time gets 503. Longer: callers wait",
            "ms",
        ),
    ]
    temperature: Annotated[
        float,
        Field(gt=0),
        Setting(
            "How freely a world model words what follows; the outcome itself is drawn as it was read",
            "Higher: more futures that cannot be read. Lower: futures too much alike",
            "ratio",
        ),
    ]
    approvals_required: Annotated[
        int,
        Field(ge=1, le=10),
        Setting(
            "Who must approve where a rule is broken or a critical outcome likely; elsewhere one person",
            "1: one tired person lets the worst case through. More: escalations wait longer, and some expire",
            "people",
        ),
    ] = 1
    version: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9_.+-]{1,32}$"),
        Setting(
            "Its name in every decision, beside a hash of all of this",
            "The same for two policies: only the hash tells them apart",
        ),
    ] = "shipped"
    shadow: Annotated[
        frozenset[str],
        Setting(
            "Kinds of action that are evaluated and recorded, and not enforced; `*`: all of them",
            "Of these nothing is ever stopped, whatever is found",
        ),
    ] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < self.critical_threshold <= self.threshold < 1:
            raise ValueError("0 < critical_threshold <= threshold < 1")
        if not 1 <= self.quorum <= self.rollouts <= self.max_rollouts:
            raise ValueError("1 <= quorum <= rollouts <= max_rollouts")

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
