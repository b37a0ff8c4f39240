"""Proposals in shadow mode: judged and recorded as any other, enforced on nobody, and in nobody's way."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from logging import getLogger

from fastapi import Response

from service.api.once import JSON
from service.api.schemas import Unawaited
from service.deadline import Deadline
from service.errors import BadProposal, KeyReused, Overloaded, PremortemError, RequestInFlight, RequestTooLarge
from service.guardrail import Guardrail
from service.log import FIELDS
from service.vocabulary.decision import Mode
from service.vocabulary.proposal import Proposal

LOG = getLogger("premortem")
MOST = 16
"""Under way at once: they wait behind whatever is enforced, and what waits takes memory."""
WAITED = 0.8
"""Of the bound; the rest is for reading the request and writing the answer, some 2 ms each way and the machine's own delays."""
WRONG = (BadProposal, KeyReused, RequestTooLarge)
"""The request's own faults, which its author must hear of."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """One proposal's: the id of the decision to be, who will judge it, and until when its caller waits."""

    decision_id: str
    guardrail: Guardrail
    bound: Deadline


@dataclass(eq=False)
class Shadows:
    guardrail: Guardrail
    bound_ms: float
    _under_way: set[asyncio.Task[Response]] = field(default_factory=set)

    def of(self, proposal: Proposal) -> Shadow | None:
        """None for what is enforced. Judged under the policy that says so, whatever is in force by then."""
        domain, chance = self.guardrail.domains[proposal.domain], self.guardrail.chance
        if not domain.policy.shadows(proposal.action.kind):
            return None
        id = chance.new_id()
        pinned = replace(self.guardrail, domains={domain.name: domain}, chance=replace(chance, new_id=lambda: id))
        return Shadow(id, pinned, Deadline.after(WAITED * self.bound_ms, chance.clock))

    async def answer(self, shadow: Shadow, work: Callable[[], Awaitable[Response]]) -> Response:
        """What the work answers within the bound, or that it goes on. Whatever fails is no failure; `WRONG` is raised."""
        if len(self._under_way) >= MOST:
            return self._lost(shadow, Overloaded("too many shadows are under way"))
        task = asyncio.create_task(self._carried_out(shadow, work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait({task}, timeout=shadow.bound.left)
        return task.result() if task.done() else _unawaited("it is being evaluated", shadow.decision_id)

    async def finish(self) -> None:
        """All that was begun is recorded, or lost."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _carried_out(self, shadow: Shadow, work: Callable[[], Awaitable[Response]]) -> Response:
        try:
            answer = await work()
        except RequestInFlight as error:
            return _unawaited(error.detail)
        except Exception as error:
            if isinstance(error, WRONG) and shadow.bound.left:
                raise
            return self._lost(shadow, error)
        self.guardrail.metrics.shadows.labels("answered" if shadow.bound.left else "late").inc()
        return answer

    def _lost(self, shadow: Shadow, error: Exception) -> Response:
        self.guardrail.metrics.shadows.labels("lost").inc()
        LOG.warning("a shadow was lost", exc_info=error, extra={FIELDS: {"decision_id": shadow.decision_id}})
        return _unawaited(error.detail if isinstance(error, PremortemError) else "it could not be evaluated")


def _unawaited(detail: str, decision_id: str | None = None) -> Response:
    body = Unawaited(decision_id=decision_id, mode=Mode.shadow, recorded=False, detail=f"not enforced, go on: {detail}")
    return Response(body.model_dump_json(), 202, media_type=JSON)
