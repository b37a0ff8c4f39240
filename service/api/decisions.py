"""What was decided, what a supervisor makes of it, and what followed."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.api.callers import Caller, Doorkeeper, Role
from service.api.draining import Draining
from service.api.errors import problems
from service.api.links import onward
from service.api.once import IdempotencyKey, Once
from service.api.overrides import Overrides
from service.api.permits import PermitDesk
from service.api.schemas import ErasureRequest, OutcomeRequest, OverrideRequest, StateRequest
from service.decisions.ledger import Ledger
from service.decisions.outcome import OutcomeReport
from service.errors import BadProposal, FieldError, UnknownDecision
from service.vocabulary.decision import Decision
from service.vocabulary.domain import Domain

MOST_WAIT_S = 60.0
READERS = (Role.agent, Role.supervisor, Role.auditor)


def router(
    ledger: Ledger,
    domains: Mapping[str, Domain],
    door: Doorkeeper,
    once: Once,
    now: Callable[[], datetime],
    desk: PermitDesk,
    overrides: Overrides,
    draining: Draining,
) -> APIRouter:
    routes = APIRouter(prefix="/v1/decisions", tags=["decisions"])

    @routes.get("", responses=problems(401, 403, 404, 422, 503))
    async def pending(
        caller: Annotated[Caller, door.opens_to(Role.supervisor, Role.auditor)],
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[str, Query(max_length=128)] = "",
    ) -> tuple[Decision, ...]:
        """Escalations that wait for a person, the soonest to end first; `after` is the last one already seen."""
        return await _pending(ledger, caller, limit, after)

    @routes.get("/{decision_id}", responses=problems(401, 403, 404, 503))
    async def read(decision_id: str, caller: Annotated[Caller, door.opens_to(*READERS)]) -> Decision:
        """The decision as it stands, and its permit while it lasts."""
        return desk.with_permit(await find(ledger, decision_id, caller), caller)

    @routes.get("/{decision_id}/wait", responses=problems(401, 403, 404, 422, 503))
    async def wait(
        decision_id: str,
        caller: Annotated[Caller, door.opens_to(*READERS)],
        timeout_s: Annotated[float, Query(gt=0, le=MOST_WAIT_S)] = 30.0,
    ) -> Decision:
        """Answers as soon as it no longer waits for a person, or when time is up, or when the service is about to end."""
        decision = await find(ledger, decision_id, caller)
        async with draining.cuts_short():
            decision = await ledger.wait(decision_id, caller.tenant, timeout_s)
        return desk.with_permit(decision, caller)

    @routes.get("/{decision_id}/events", responses=problems(401, 403, 404, 503))
    async def history(
        decision_id: str, caller: Annotated[Caller, door.opens_to(Role.supervisor, Role.auditor)]
    ) -> tuple[dict[str, Any], ...]:
        """Everything in the audit chain that concerns it, oldest first."""
        await find(ledger, decision_id, caller)
        return tuple(event.model_dump(mode="json") for event in await ledger.history(decision_id, caller.tenant))

    @routes.post(
        "/{decision_id}/override",
        responses=problems(401, 403, 404, 409, 413, 415, 422, 503) | onward(),
        response_model=Decision,
    )
    async def override(
        request: Request,
        decision_id: str,
        body: OverrideRequest,
        caller: Annotated[Caller, door.opens_to(Role.supervisor)],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """A supervisor's ruling, for a reason. With an edited action the answer is the new decision on that action.

        An approval counts once a person, and never from whoever asked; `override.approvals_required` says how many it takes.
        """

        async def ruled() -> bytes:
            decision = await find(ledger, decision_id, caller)
            ruled = await overrides.rule(decision, body, caller)
            return desk.with_permit(ruled, caller).model_dump_json().encode()

        return await once.answer(request, caller, idempotency_key, ruled)

    @routes.post("/{decision_id}/state", responses=problems(401, 403, 404, 409, 413, 415, 422, 503))
    async def state(
        decision_id: str, body: StateRequest, caller: Annotated[Caller, door.opens_to(Role.agent, Role.supervisor)]
    ) -> Decision:
        """Asked right before acting: if this is not the state that was judged, whatever was approved is void, for good."""
        decision = await find(ledger, decision_id, caller)
        return desk.with_permit(await overrides.still(decision, body.state, caller), caller)

    @routes.post("/{decision_id}/outcome", status_code=204, responses=problems(401, 403, 404, 413, 415, 422, 503))
    async def outcome(
        decision_id: str,
        body: OutcomeRequest,
        caller: Annotated[Caller, door.opens_to(Role.outcome, Role.supervisor)],
    ) -> None:
        """What really happened. A later report corrects an earlier one, and both are kept. No agent reports on itself."""
        decision = await find(ledger, decision_id, caller)
        scale = domains[decision.domain].outcomes.names if decision.domain in domains else ()
        if body.outcome not in scale:
            wrong = FieldError("/outcome", f"not on the scale of {decision.domain}: {', '.join(scale)}")
            raise BadProposal(f"there is no outcome {body.outcome!r}", [wrong])
        note = overrides.struck(decision, body.note)
        report = OutcomeReport(
            decision_id=decision_id, outcome=body.outcome, at=body.at or now(), reporter=caller.name, note=note
        )
        await ledger.report(report, caller.tenant)
        overrides.guardrail.followed(decision, body.outcome)

    @routes.post("/{decision_id}/erasure", status_code=204, responses=problems(401, 403, 404, 413, 415, 422, 503))
    async def erase(
        decision_id: str, body: ErasureRequest, caller: Annotated[Caller, door.opens_to(Role.admin)]
    ) -> None:
        """Makes all that was written about it unreadable, for ever; that it was decided, and how, stays in the chain."""
        await find(ledger, decision_id, caller)
        await ledger.erase(decision_id, caller.tenant, now(), " ".join((caller.name, body.code, body.ticket)).strip())

    return routes


async def find(ledger: Ledger, decision_id: str, caller: Caller) -> Decision:
    """Raises `UnknownDecision` for what there is not, and for what the caller may not see."""
    decision = await ledger.find(decision_id, caller.tenant)
    if decision is None or not caller.sees(decision.domain):
        raise UnknownDecision(f"there is no decision {decision_id!r}")
    return decision


async def _pending(ledger: Ledger, caller: Caller, limit: int, after: str) -> tuple[Decision, ...]:
    """A whole page of what the caller sees, if there is so much."""
    found: list[Decision] = []
    while len(found) < limit:
        page = await ledger.pending(caller.tenant, limit, after)
        found += [decision for decision in page if caller.sees(decision.domain)]
        if len(page) < limit:
            break
        after = page[-1].decision_id
    return tuple(found[:limit])
