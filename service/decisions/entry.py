"""What the ledgers write, and when they may: one set of rules for all of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from service.decisions.chain import Draft, Kind, sorted_json, spelt
from service.decisions.dossier import Dossier, told
from service.decisions.outcome import OutcomeReport
from service.errors import LedgerUnavailable, UnknownDecision
from service.vocabulary.decision import Decision, Override, OverrideCode, OverrideRuling
from service.vocabulary.verdict import Ruling

NOBODY = ""
"""Under whose name an escalation ran out."""
NoteKind = Literal[Kind.policy, Kind.model, Kind.key, Kind.switch]


def decided(decision: Decision, tenant: str) -> Draft:
    return Draft(decision.at, tenant, Kind.decision, decision.decision_id, told(decision))


def ruled(override: Override, tenant: str) -> Draft:
    return Draft(override.at, tenant, Kind.override, override.decision_id, told(override))


def reported(report: OutcomeReport, tenant: str) -> Draft:
    return Draft(report.at, tenant, Kind.outcome, report.decision_id, told(report))


def noted(kind: NoteKind, subject: str, body: Mapping[str, Any], at: datetime, tenant: str) -> Draft:
    return Draft(at, tenant, kind, subject, sorted_json(dict(body)).decode())


def erased(decision_id: str, tenant: str, at: datetime, by: str) -> Draft:
    return Draft(at, tenant, Kind.erasure, decision_id, sorted_json({"by": by}).decode())


def ran_out(decision_id: str, now: datetime) -> Override:
    return Override(
        decision_id=decision_id,
        ruling=OverrideRuling.expired,
        code=OverrideCode.expired,
        reason="nobody ruled in time",
        supervisor=NOBODY,
        at=now.astimezone(UTC),
    )


def present(decision_id: str, decision: Decision | None) -> Decision:
    """Raises `UnknownDecision` where there is none."""
    if decision is None:
        raise _unknown(decision_id)
    return decision


def own(kept: Dossier | None, tenant: str) -> Dossier | None:
    """The one way to a decision: another tenant's is none."""
    return kept if kept and kept.tenant == tenant else None


def known(decision_id: str, kept: Dossier | None, tenant: str) -> Dossier:
    """Raises `UnknownDecision` where there is none, or it is another tenant's."""
    found = own(kept, tenant)
    if found is None:
        raise _unknown(decision_id)
    return found


def is_new(decision: Decision, kept: Dossier | None, tenant: str) -> bool:
    """The same again is not new. Raises `LedgerUnavailable` for another under the same id."""
    if kept is not None and not (kept.tenant == tenant and kept.is_of(decision)):
        raise LedgerUnavailable(f"another decision is kept as {decision.decision_id}")
    return kept is None


def is_erasable(decision_id: str, kept: Dossier) -> bool:
    """What is erased already need not be. Raises `LedgerUnavailable` for what was never sealed: the chain holds its very words."""
    if not (kept.seal.salt or kept.seal.erased):
        raise LedgerUnavailable(f"{decision_id} was kept without a vault: its text is in the audit chain, for good")
    return not kept.seal.erased


def due(decision: Decision) -> str | None:
    """Where an escalation stands in the queue of those that wait: by when it ends, then by its id."""
    terms = decision.override if decision.ruling is Ruling.escalate else None
    return f"{spelt(terms.expires_at)}|{decision.decision_id}" if terms else None


def due_before(now: datetime) -> str:
    """Sorts after all that ended before now, and before all that end now or later."""
    return f"{spelt(now)}|"


def decision_of(due: str) -> str:
    return due.split("|", 1)[1]


def _unknown(decision_id: str) -> UnknownDecision:
    return UnknownDecision(f"there is no decision {decision_id}")
