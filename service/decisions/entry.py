"""What the ledgers write, and when they may: one set of rules for all of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import from_json

from service.decisions.chain import Draft, Kind, sorted_json, spelt
from service.decisions.outcome import OutcomeReport
from service.errors import LedgerUnavailable, OverrideRefused, UnknownDecision
from service.vocabulary.decision import Decision, Override, OverrideRuling

HOUSE = "house"
"""The tenant where nobody named one."""
NOBODY = ""
"""Who denies an escalation that ran out."""
NoteKind = Literal[Kind.policy, Kind.model, Kind.key]


def told(value: BaseModel) -> str:
    return sorted_json(from_json(value.model_dump_json())).decode()


def decided(decision: Decision, tenant: str) -> Draft:
    return Draft(decision.at, tenant, Kind.decision, decision.decision_id, told(decision))


def ruled(override: Override, tenant: str) -> Draft:
    return Draft(override.at, tenant, Kind.override, override.decision_id, told(override))


def reported(report: OutcomeReport, tenant: str) -> Draft:
    return Draft(report.at, tenant, Kind.outcome, report.decision_id, told(report))


def noted(kind: NoteKind, subject: str, body: Mapping[str, Any], at: datetime, tenant: str) -> Draft:
    return Draft(at, tenant, kind, subject, sorted_json(dict(body)).decode())


def ran_out(decision_id: str, now: datetime) -> Override:
    """Nobody ruled in time: denied."""
    return Override(
        decision_id=decision_id,
        ruling=OverrideRuling.denied,
        reason="expired",
        supervisor=NOBODY,
        at=now.astimezone(UTC),
    )


def present(decision_id: str, decision: Decision | None) -> Decision:
    """Raises `UnknownDecision` where there is none."""
    if decision is None:
        raise UnknownDecision(f"there is no decision {decision_id}")
    return decision


def known(decision_id: str, kept: str | None) -> Decision:
    """The decision in a row. Raises `UnknownDecision` where there is no row."""
    return present(decision_id, None if kept is None else Decision.model_validate_json(kept))


def is_new(decision: Decision, kept: str | None) -> bool:
    """The same again is not new. Raises `LedgerUnavailable` for another under the same id."""
    if kept is not None and sorted_json(from_json(kept)).decode() != told(decision):
        raise LedgerUnavailable(f"another decision is kept as {decision.decision_id}")
    return kept is None


def unruled(ruling: str | None) -> None:
    """Raises `OverrideRefused` if there is a ruling."""
    if ruling is not None:
        raise OverrideRefused("this decision has been ruled on already")


def whole(decision: Decision, ruling: str | None) -> Decision:
    return decision.model_copy(update={"overridden": Override.model_validate_json(ruling) if ruling else None})


def due(decision: Decision) -> str | None:
    """Where an escalation stands in the queue of those that wait: by when it ends, then by its id."""
    return f"{spelt(decision.override.expires_at)}|{decision.decision_id}" if decision.override else None


def due_before(now: datetime) -> str:
    """Sorts after all that ended before now, and before all that end now or later."""
    return f"{spelt(now)}|"


def decision_of(due: str) -> str:
    return due.split("|", 1)[1]
