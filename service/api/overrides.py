"""A supervisor's ruling, an edited action, and a state that is another by now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from service.api.callers import Caller, Role
from service.api.permits import bound_to
from service.api.schemas import OverrideRequest
from service.decisions.ledger import Ledger
from service.decisions.ruling import Supersession, open_to
from service.decisions.vault import ERASED
from service.errors import NotAllowed, OverrideRefused
from service.guardrail import Guardrail, Options
from service.vocabulary.decision import Decision, Mode, Override, OverrideCode, OverrideRuling
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.redaction import redact


@dataclass(frozen=True, slots=True)
class Overrides:
    guardrail: Guardrail
    ledger: Ledger
    domains: Mapping[str, Domain]
    now: Callable[[], datetime]

    async def rule(self, decision: Decision, asked: OverrideRequest, caller: Caller) -> Decision:
        """Raises `OverrideRefused`, and what the guardrail and the ledger raise."""
        if asked.action is not None:
            return await self._edited(decision, asked, asked.action, caller)
        ruling = Override(
            decision_id=decision.decision_id,
            ruling=asked.ruling,
            code=asked.code,
            reason=self.struck(decision, asked.reason),
            supervisor=caller.name,
            at=self.now(),
        )
        return await self._kept(ruling, caller)

    def struck(self, decision: Decision, text: str) -> str:
        """A person's words, without what the domain strikes out before it keeps anything."""
        domain = self.domains.get(decision.domain)
        return str(redact(text, domain.redactions)[0]) if domain else text

    async def still(self, decision: Decision, state: dict[str, Any], caller: Caller) -> Decision:
        """The decision as it was, if this is the state that was judged or nothing was enforced; else it is void.

        Raises `NotAllowed`, `BadProposal`.
        """
        bound = decision.proposal.bound
        if bound is None or (bound.agent != caller.name and not caller.may(Role.supervisor)):
            raise NotAllowed("only whoever asked, or a supervisor, may say what the state is now")
        same = bound_to(bound.agent, decision.proposal.action, state).state == bound.state
        if same or decision.mode is Mode.shadow:
            return decision
        void = Override(
            decision_id=decision.decision_id,
            ruling=OverrideRuling.void,
            code=OverrideCode.state_changed,
            reason=f"the state is not the one that was judged: reported by {caller.name}",
            supervisor="",
            at=self.now(),
        )
        return await self._kept(void, caller)

    async def _kept(self, ruling: Override, caller: Caller) -> Decision:
        standing = await self.ledger.override(ruling, caller.tenant)
        self.guardrail.metrics.ruled(standing)
        return standing

    async def _edited(self, decision: Decision, asked: OverrideRequest, action: Action, caller: Caller) -> Decision:
        """The decision on the edited action, which takes this one's place."""
        domain, before = self.domains.get(decision.domain), decision.proposal
        if domain is None or before.bound is None or before.action.kind == ERASED:
            raise OverrideRefused("this decision cannot be simulated anew")
        supersession = Supersession(decision.decision_id, caller.name, self.struck(decision, asked.reason))
        open_to(decision, supersession.ruling("", self.now()))
        try:
            state = domain.state_type.model_validate(before.state)
        except ValidationError as error:
            raise OverrideRefused("the state it was judged in is no longer on record as it was sent") from error
        proposal = Proposal(
            domain=domain.name,
            state=state,
            action=action,
            asker=before.asker,
            bound=before.bound.model_copy(update={"act": bound_to(before.bound.agent, action, {}).act}),
            tenant=caller.tenant,
        )
        edited = await self.guardrail.evaluate(proposal, Options(), supersession)
        replaced = supersession.ruling(edited.decision_id, edited.at)
        self.guardrail.metrics.ruled(decision.model_copy(update={"overridden": replaced}))
        return edited
