"""What was decided, and what a supervisor makes of it."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter

from service.api.callers import Caller, Doorkeeper, Role
from service.api.errors import problems
from service.api.schemas import OverrideRequest
from service.decisions.ledger import Ledger
from service.errors import OverrideRefused, UnknownDecision
from service.vocabulary.decision import Decision, Override


def router(ledger: Ledger, door: Doorkeeper, now: Callable[[], datetime]) -> APIRouter:
    routes = APIRouter(prefix="/v1/decisions", tags=["decisions"])

    @routes.get(
        "/{decision_id}", responses=problems(401, 404, 503), dependencies=[door.opens_to(Role.agent, Role.supervisor)]
    )
    async def read(decision_id: str) -> Decision:
        """The decision as it was answered, and its override if there is one."""
        return await _find(ledger, decision_id)

    @routes.post("/{decision_id}/override", responses=problems(401, 403, 404, 409, 413, 415, 422, 503))
    async def override(
        decision_id: str, body: OverrideRequest, caller: Annotated[Caller, door.opens_to(Role.supervisor)]
    ) -> Decision:
        """A supervisor's ruling on an escalation: once, for a reason, before it expires. An agent's key is refused."""
        decision = await _find(ledger, decision_id)
        if decision.override is None:
            raise OverrideRefused("this decision was an approval: there is nothing to override")
        at = now()
        if at > decision.override.expires_at:
            raise OverrideRefused(
                f"the time to override this decision ended at {decision.override.expires_at.isoformat()}"
            )
        return await ledger.override(
            Override(decision_id=decision_id, ruling=body.ruling, reason=body.reason, supervisor=caller.name, at=at)
        )

    return routes


async def _find(ledger: Ledger, decision_id: str) -> Decision:
    decision = await ledger.find(decision_id)
    if decision is None:
        raise UnknownDecision(f"there is no decision {decision_id!r}")
    return decision
