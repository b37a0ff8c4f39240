"""Who may rule on a decision, when, and what it then amounts to. Pure; the ledgers keep what is admitted here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from service.errors import OverrideRefused
from service.vocabulary.decision import Decision, Mode, Override, OverrideCode, OverrideRuling
from service.vocabulary.verdict import Ruling

NEXT: Mapping[OverrideRuling | Ruling, frozenset[OverrideRuling]] = {
    Ruling.escalate: frozenset(OverrideRuling),
    Ruling.approve: frozenset({OverrideRuling.denied, OverrideRuling.void}),
    OverrideRuling.approved: frozenset({OverrideRuling.denied, OverrideRuling.void}),
    OverrideRuling.denied: frozenset(),
    OverrideRuling.expired: frozenset(),
    OverrideRuling.superseded: frozenset(),
    OverrideRuling.void: frozenset(),
}
"""What may follow. A verdict or an approval may be tightened and may lose its object; nothing else is ever taken back."""


@dataclass(frozen=True, slots=True)
class Supersession:
    """That a new decision takes the place of an older one, because a supervisor edited the action."""

    decision_id: str
    supervisor: str
    reason: str

    def ruling(self, successor: str, at: datetime) -> Override:
        """On the older decision."""
        return Override(
            decision_id=self.decision_id,
            ruling=OverrideRuling.superseded,
            code=OverrideCode.edited,
            reason=self.reason,
            supervisor=self.supervisor,
            at=at,
            successor=successor,
        )


def ruled(decision: Decision, rulings: Sequence[Override]) -> Decision:
    """The decision as it stands after these rulings, oldest first."""
    approvals = tuple(each for each in rulings if each.ruling is OverrideRuling.approved)
    last = rulings[-1] if rulings else None
    if last and last.ruling is OverrideRuling.approved and len(approvals) < _required(decision):
        last = None
    return decision.model_copy(update={"approvals": approvals, "overridden": last})


def admit(decision: Decision, rulings: Sequence[Override], ruling: Override) -> Decision:
    """The decision as it stands then. Raises `OverrideRefused`."""
    open_to(ruled(decision, rulings), ruling)
    return ruled(decision, [*rulings, ruling])


def open_to(standing: Decision, ruling: Override) -> None:
    """Raises `OverrideRefused` if a decision that stands so does not admit the ruling. A shadow admits none."""
    if standing.mode is Mode.shadow:
        raise OverrideRefused(
            "this decision was made in shadow mode: it is not enforced, so there is nothing to rule on"
        )
    now = standing.overridden.ruling if standing.overridden else standing.ruling
    if ruling.ruling not in NEXT[now]:
        raise OverrideRefused(_closed(standing, ruling))
    if ruling.ruling is OverrideRuling.approved:
        _may_approve(standing, ruling)


def waits(standing: Decision) -> bool:
    """Whether it waits for a person."""
    return standing.ruling is Ruling.escalate and standing.overridden is None and standing.mode is not Mode.shadow


def _may_approve(standing: Decision, ruling: Override) -> None:
    bound, terms = standing.proposal.bound, standing.override
    if bound is not None and bound.agent == ruling.supervisor:
        raise OverrideRefused("whoever asked may not approve it")
    if any(each.supervisor == ruling.supervisor for each in standing.approvals):
        raise OverrideRefused(f"{ruling.supervisor} has approved this already: it takes another person")
    if terms and ruling.at > terms.expires_at:
        raise OverrideRefused(f"the time to override this decision ended at {terms.expires_at.isoformat()}")


def _closed(standing: Decision, ruling: Override) -> str:
    if standing.overridden is None:
        return f"this decision was an approval: it may be denied, not {ruling.ruling}"
    return f"this decision has been ruled on already: {standing.overridden.ruling}"


def _required(decision: Decision) -> int:
    return decision.override.approvals_required if decision.override else 1
