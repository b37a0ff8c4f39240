"""How an answer under load counts, and what many of them come to beside their budget."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from loadtest.budgets import Budget

DECIDED_BY_RULE = ("hard_rule", "not_high_impact")
"""Reasons that need no simulation."""


class Kind(StrEnum):
    """An escalation is as good an answer as an approval; a refusal is counted apart; anything else is an error."""

    approve = "approve"
    escalate = "escalate"
    refused = "refused"
    error = "error"


@dataclass(frozen=True, slots=True)
class Answer:
    """`ms` is from when it was to be asked. `simulated` is None where no simulation was called for; `why` tells an error."""

    kind: Kind
    ms: float
    simulated: bool | None = None
    why: str = ""

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: bytes, ms: float) -> "Answer":
        """A `status` of 0 is no answer at all."""
        if status == 503 and headers.get("Retry-After"):
            return cls(Kind.refused, ms)
        if status != 200:
            return cls(Kind.error, ms, why=f"HTTP {status}: {body[:200].decode(errors='replace')}")
        try:
            told = json.loads(body)
            ruling, reason, basis = told["ruling"], told["reason"], told["basis"]
            kind = {"approve": Kind.approve, "escalate": Kind.escalate}[ruling]
        except (ValueError, LookupError, TypeError) as error:
            return cls(Kind.error, ms, why=f"no decision: {type(error).__name__} {error}")
        if kind is Kind.approve and basis != "simulated" and reason != "not_high_impact":
            return cls(Kind.error, ms, why=f"an approval without evidence: {reason}, basis {basis}")
        return cls(kind, ms, None if reason in DECIDED_BY_RULE else basis == "simulated")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one domain. Shares of what was offered, but `late` of what was answered and `simulated` of what called for it.

    Late is answered after `budget_ms`, the domain's own.
    """

    budget_ms: float
    offered: int
    answered: int
    refused: float
    errors: float
    late: float
    p50: float
    p99: float
    simulated: float
    whys: Mapping[str, int]

    @classmethod
    def of(cls, answers: Sequence[Answer], budget_ms: float) -> "Figures":
        kinds = Counter(answer.kind for answer in answers)
        times = [answer.ms for answer in answers if answer.kind in (Kind.approve, Kind.escalate)]
        simulated = [answer.simulated for answer in answers if answer.simulated is not None]
        p50, p99 = (float(np.percentile(times, share)) if times else float("inf") for share in (50, 99))
        return cls(
            budget_ms,
            len(answers),
            len(times),
            _share(kinds[Kind.refused], len(answers)),
            _share(kinds[Kind.error], len(answers)),
            _share(sum(ms > budget_ms for ms in times), len(times)),
            p50,
            p99,
            _share(sum(simulated), len(simulated)),
            dict(Counter(answer.why for answer in answers if answer.why)),
        )

    def limits(self, budget: Budget) -> dict[str, float]:
        """In the figures' own units, by the figure's name."""
        return budget.model_dump() | {"p50": budget.p50 * self.budget_ms, "p99": budget.p99 * self.budget_ms}

    def broken(self, budget: Budget) -> list[str]:
        """The figures that are beyond their limit."""
        beyond = {name: getattr(self, name) > most for name, most in self.limits(budget).items()}
        return [
            name for name, is_beyond in (beyond | {"simulated": self.simulated < budget.simulated}).items() if is_beyond
        ]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
