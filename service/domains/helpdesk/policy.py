"""How much risk a helpdesk tolerates, and the limits that its observations are held against."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.vocabulary.severity import Severity
from service.vocabulary.verdict import RiskPolicy

POLICY = RiskPolicy(
    threshold=0.3,
    critical_threshold=0.10,
    adverse_from=Severity.serious,
    rollouts=5,
    max_rollouts=20,
    horizon=5,
    anchor_interval=4,
    quorum=3,
    budget_ms=800,
    temperature=0.8,
    approvals_required=2,
)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most of something that is usual, in `unit`, and who says so."""

    most: int
    unit: str
    source: str


LIMITS: Mapping[str, Limit] = {
    "accounts affected": Limit(
        50, "accounts", "house rule after ITIL 4 change enablement: wider is no standard change"
    ),
    "credential age": Limit(90, "days", "CIS AWS Foundations 1.14: rotate access keys every 90 days or less"),
    "turns elapsed": Limit(10, "turns", "house rule after HDI practice: hand over what ten turns did not solve"),
    "failed attempts": Limit(2, "attempts", "house rule after HDI practice: hand over after two failed fixes"),
}

BANDS = ((0.5, "low"), (0.85, "ok"), (1.0, "near"), (1.5, "over"))


def band(value: float, limit: float) -> str:
    """A word for where a value lies against its limit."""
    return next((word for most, word in BANDS if value <= most * limit), "far_over")
