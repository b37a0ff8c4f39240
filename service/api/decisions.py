"""What was decided, and what a supervisor makes of it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.callers import Caller, Doorkeeper, Role
from service.api.errors import problems
from service.api.once import IdempotencyKey, Once
from service.api.permits import PermitDesk
from service.api.schemas import OutcomeRequest, OverrideRequest
from service.decisions.ledger import Ledger
from service.decisions.outcome import OutcomeReport
from service.errors import BadProposal, FieldError, OverrideRefused, UnknownDecision
from service.vocabulary.decision import Decision, Override
from service.vocabulary.domain import Domain

MOST_WAIT_S = 60.0


def router(
    ledger: Ledger,
    domains: Mapping[str, Domain],
    door: Doorkeeper,
    once: Once,
    now: Callable[[], datetime],
    desk: PermitDesk,
) -> APIRouter:
    routes = APIRouter(prefix="/v1/decisions", tags=["decisions"])
    readers = door.opens_to(Role.agent, Role.supervisor)

    @routes.get("", responses=problems(401, 403, 404, 422, 503), dependencies=[door.opens_to(Role.supervisor)])
    async def pending(limit: Annotated[int, Query(ge=1, le=200)] = 50, after: str = "") -> tuple[Decision, ...]:
        """Escalations that wait for a person, the soonest to end first; `after` is the last one already seen."""
        return await ledger.pending(limit, after)

    @routes.get("/{decision_id}", responses=problems(401, 404, 503))
    async def read(decision_id: str, caller: Annotated[Caller, readers]) -> Decision:
        """The decision as it was answered, its override if there is one, and its permit while it lasts."""
        return desk.with_permit(await _find(ledger, decision_id), caller)

    @routes.get("/{decision_id}/wait", responses=problems(401, 404, 422, 503))
    async def wait(
        decision_id: str,
        caller: Annotated[Caller, readers],
        timeout_s: Annotated[float, Query(gt=0, le=MOST_WAIT_S)] = 30.0,
    ) -> Decision:
        """Answers as soon as a person has ruled, or when time is up."""
        decision = await _find(ledger, decision_id)
        awaited = await ledger.wait(decision_id, timeout_s) if decision.override else decision
        return desk.with_permit(awaited, caller)

    @routes.post(
        "/{decision_id}/override", responses=problems(401, 403, 404, 409, 413, 415, 422, 503), response_model=Decision
    )
    async def override(
        request: Request,
        decision_id: str,
        body: OverrideRequest,
        caller: Annotated[Caller, door.opens_to(Role.supervisor)],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """A supervisor's ruling on an escalation: once, for a reason, before it expires. An agent's key is refused."""

        async def ruled() -> bytes:
            at = await _open_to_override(ledger, decision_id, now())
            ruling = Override(
                decision_id=decision_id, ruling=body.ruling, reason=body.reason, supervisor=caller.name, at=at
            )
            return desk.with_permit(await ledger.override(ruling), caller).model_dump_json().encode()

        return await once.answer(request, caller.name, idempotency_key, ruled)

    @routes.post("/{decision_id}/outcome", status_code=204, responses=problems(401, 404, 413, 415, 422, 503))
    async def outcome(
        decision_id: str,
        body: OutcomeRequest,
        caller: Annotated[Caller, door.opens_to(Role.agent, Role.supervisor)],
    ) -> None:
        """What really happened. A later report corrects an earlier one, and both are kept."""
        decision = await _find(ledger, decision_id)
        scale = domains[decision.domain].outcomes.names if decision.domain in domains else ()
        if body.outcome not in scale:
            wrong = FieldError("/outcome", f"not on the scale of {decision.domain}: {', '.join(scale)}")
            raise BadProposal(f"there is no outcome {body.outcome!r}", [wrong])
        await ledger.report(
            OutcomeReport(
                decision_id=decision_id, outcome=body.outcome, at=body.at or now(), reporter=caller.name, note=body.note
            )
        )

    return routes


async def _open_to_override(ledger: Ledger, decision_id: str, at: datetime) -> datetime:
    decision = await _find(ledger, decision_id)
    if decision.override is None:
        raise OverrideRefused("this decision was an approval: there is nothing to override")
    if at > decision.override.expires_at:
        raise OverrideRefused(f"the time to override this decision ended at {decision.override.expires_at.isoformat()}")
    return at


async def _find(ledger: Ledger, decision_id: str) -> Decision:
    decision = await ledger.find(decision_id)
    if decision is None:
        raise UnknownDecision(f"there is no decision {decision_id!r}")
    return decision
