"""POST /v1/evaluations: a proposal in, a decision out."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example
from pydantic import ValidationError

from service.admission import Priority
from service.api.callers import Caller, Doorkeeper, Role
from service.api.errors import pointer, problems
from service.api.links import onward
from service.api.once import IdempotencyKey, Once
from service.api.permits import PermitDesk, bound_to
from service.api.rates import Rates
from service.api.schemas import EvaluationRequest, Unawaited
from service.api.shadows import Shadows
from service.errors import BadProposal, CallerGone, FieldError, NotAllowed, UnknownDomain
from service.guardrail import Guardrail
from service.vocabulary.decision import Decision
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Proposal


def router(
    guardrail: Guardrail,
    domains: Mapping[str, Domain],
    door: Doorkeeper,
    once: Once,
    examples: dict[str, Example],
    desk: PermitDesk,
    rates: Rates,
    shadows: Shadows,
) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["evaluations"])

    @routes.post(
        "/evaluations",
        responses=problems(401, 403, 404, 409, 413, 415, 422, 429, 503)
        | onward()
        | {202: {"model": Unawaited, "description": "In shadow mode, and not decided within the bound: go on"}},
        summary="What happens if I do this?",
        response_model=Decision,
    )
    async def evaluate(
        request: Request,
        caller: Annotated[Caller, door.opens_to(Role.agent, Role.supervisor)],
        body: Annotated[EvaluationRequest, Body(openapi_examples=examples)],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Approve or escalate, with the evidence. An escalation is an answer (200), not an error.

        In shadow mode nothing is enforced: it answers within `PREMORTEM_SHADOW_MS`, whatever becomes of the evaluation.
        """
        proposal = read_proposal(domains, body, caller)
        shadow = shadows.of(proposal)
        options = body.options.model_copy(update={"priority": Priority.batch}) if shadow else body.options
        until = guardrail.deadline(proposal.domain, options)

        async def decided() -> bytes:
            with rates.buying(caller, guardrail.steps(proposal.domain, options)) as purchase:
                judge = shadow.guardrail if shadow else guardrail
                work = judge.evaluate(proposal, options, until=until)
                decision = await (work if shadow else _unless_gone(request, work))
                purchase.pay(decision)
            return desk.with_permit(decision, caller).model_dump_json().encode()

        async def answered() -> Response:
            return await once.answer(request, caller, idempotency_key, decided, until)

        return await (shadows.answer(shadow, answered) if shadow else answered())

    return routes


def read_proposal(domains: Mapping[str, Domain], body: EvaluationRequest, caller: Caller) -> Proposal:
    """Raises `UnknownDomain`, `NotAllowed`, or `BadProposal` naming the fields."""
    domain = domains.get(body.domain)
    if domain is None:
        raise UnknownDomain(f"there is no domain {body.domain!r}; there are {', '.join(domains)}")
    if not caller.sees(domain.name):
        raise NotAllowed(f"this credential is for {', '.join(sorted(caller.domains))}, not {domain.name}")
    try:
        state = domain.state_type.model_validate(body.state)
    except ValidationError as error:
        found = [FieldError(pointer(("state", *each["loc"])), each["msg"]) for each in error.errors()]
        raise BadProposal(f"the state is not a {domain.name} state", found) from error
    bound = bound_to(caller.name, body.action, body.state)
    return Proposal(
        domain=domain.name, state=state, action=body.action, asker=body.context, bound=bound, tenant=caller.tenant
    )


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Decision]) -> Decision:
    """Cancels the work, and with it every future, as soon as the caller hangs up. Then raises `CallerGone`."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CallerGone("the caller hung up")
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait({task, gone})


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
