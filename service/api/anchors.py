"""POST /v1/anchors: history in. A tenant's cases are recalled for that tenant alone."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import AwareDatetime, Field, JsonValue, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler
from pydantic.functional_validators import WrapValidator

from service.anchors.bank import AnchorBank, AnchorBankUnavailable
from service.anchors.history import anchors_of
from service.api.callers import Caller, Doorkeeper, Role
from service.api.errors import pointer, problems
from service.errors import BadProposal, FieldError, HistoryUnavailable, NotAllowed, UnknownDomain
from service.vocabulary.anchor import Anchor
from service.vocabulary.domain import Domain
from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import Action
from service.vocabulary.redaction import redact
from service.vocabulary.rollout import Trajectory, Transition

MOST_CASES, MOST_STEPS = 100, 50
"""In a request, and in a case."""
SKEW = timedelta(minutes=5)
"""How far ahead of ours the clock of whoever recorded it may be."""
RETRY_S = 1


class RecordedStep(Frozen):
    """In this state this was done, and this is what came of it."""

    state: dict[str, JsonValue] = Field(description="The domain's own state; its schema: GET /v1/domains/{name}")
    action: Action
    outcome: str = Field(max_length=64, description="A name on the domain's scale")
    observation: str = Field(default="", max_length=2_000, description="What was seen, in a person's words")


class RecordedCase(Frozen):
    """What really happened, step by step. Sent again under its id it takes the earlier one's place, turn by turn."""

    domain: str = Field(min_length=1, max_length=64, examples=["safety"])
    trajectory: list[RecordedStep] = Field(min_length=1, max_length=MOST_STEPS)
    when: AwareDatetime
    source: str = Field(default="", max_length=128, description="Where it was recorded; the caller, if it is not said")
    id: str = Field(default="", max_length=128, description="By its content, if it is not said")


class Added(Frozen):
    """The anchors that a precedent may name from now on."""

    added: int
    anchors: tuple[str, ...]


Many = Annotated[list[RecordedCase], Field(min_length=1, max_length=MOST_CASES)]
ONE, MANY = TypeAdapter(RecordedCase), TypeAdapter[list[RecordedCase]](Many)


def _one_or_many(told: Any, _: ValidatorFunctionWrapHandler) -> RecordedCase | list[RecordedCase]:
    """Whichever it looks like, so that what is wrong is said of that alone."""
    return MANY.validate_python(told) if isinstance(told, list) else ONE.validate_python(told)


OneOrMany = Annotated[RecordedCase | Many, WrapValidator(_one_or_many)]


def router(bank: AnchorBank, domains: Mapping[str, Domain], door: Doorkeeper, now: Callable[[], datetime]) -> APIRouter:
    routes = APIRouter(prefix="/v1/anchors", tags=["anchors"])

    @routes.post("", responses=problems(401, 403, 404, 413, 415, 422, 503))
    async def add(body: Annotated[OneOrMany, Body()], caller: Annotated[Caller, door.opens_to(Role.admin)]) -> Added:
        """Recorded cases, kept for this tenant before it is answered: all of them, or none if any is not as it must be."""
        anchors = read_history(domains, body, caller, now())
        try:
            await bank.add(anchors)
        except AnchorBankUnavailable as error:
            raise HistoryUnavailable(f"send it again: {error}", retry_after=RETRY_S) from error
        return Added(added=len(anchors), anchors=tuple(anchor.id for anchor in anchors))

    return routes


def read_history(
    domains: Mapping[str, Domain], body: RecordedCase | list[RecordedCase], caller: Caller, now: datetime
) -> Sequence[Anchor]:
    """Of two under one id the last. Raises `UnknownDomain`, `NotAllowed`, or `BadProposal`, naming the fields."""
    told = [((), body)] if isinstance(body, RecordedCase) else [((place,), case) for place, case in enumerate(body)]
    for place, case in told:
        _admit(domains, case, caller, pointer((*place, "domain")))
    found = [
        FieldError(pointer((*place, *path)), detail)
        for place, case in told
        for path, detail in _faults(domains[case.domain], case, now)
    ]
    if found:
        raise BadProposal(f"{len(found)} field(s) are not what can have happened", found)
    cases = [(domains[case.domain], case) for _, case in told]
    anchors = (
        anchor
        for domain, case in cases
        for anchor in anchors_of(
            domain, _trajectory(domain, _struck(domain, case), case.source or caller.name), caller.tenant
        )
    )
    return tuple({anchor.id: anchor for anchor in anchors}.values())


def _admit(domains: Mapping[str, Domain], case: RecordedCase, caller: Caller, at: str) -> None:
    if case.domain not in domains:
        known = ", ".join(domains)
        raise UnknownDomain(
            f"there is no domain {case.domain!r}; there are {known}", [FieldError(at, f"not of {known}")]
        )
    if not caller.sees(case.domain):
        allowed = ", ".join(sorted(caller.domains))
        raise NotAllowed(f"this credential is for {allowed}, not {case.domain}", [FieldError(at, f"not of {allowed}")])


def _faults(domain: Domain, case: RecordedCase, now: datetime) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where it cannot have happened as it is told, and why."""
    if case.when > now + SKEW:
        yield ("when",), "has not happened yet"
    for turn, step in enumerate(case.trajectory):
        at = ("trajectory", turn)
        try:
            domain.state_type.model_validate(step.state)
        except ValidationError as error:
            yield from (((*at, "state", *each["loc"]), each["msg"]) for each in error.errors())
        if step.outcome not in domain.outcomes.by_name:
            yield (*at, "outcome"), f"not on the scale of {domain.name}: {', '.join(domain.outcomes.names)}"
        elif domain.outcomes[step.outcome].terminal and turn + 1 < len(case.trajectory):
            yield (*at, "outcome"), f"{step.outcome} ends a case, and this one goes on"


def _struck(domain: Domain, case: RecordedCase) -> RecordedCase:
    """Without what the domain strikes out before it keeps anything; the rules are told where a decision has it."""

    def struck(step: RecordedStep) -> RecordedStep:
        told: Any = {"proposal": step.model_dump(mode="json", include={"state", "action"})}
        kept: Any = redact(told, domain.redactions)[0]
        observation = redact(step.observation, domain.redactions)[0]
        return RecordedStep.model_validate({**kept["proposal"], "outcome": step.outcome, "observation": observation})

    return case.model_copy(update={"trajectory": [struck(step) for step in case.trajectory]})


def _trajectory(domain: Domain, case: RecordedCase, source: str) -> Trajectory:
    """What was never said, the changes, is left at none. Ids are a domain's own, as those of bundled history are."""
    states = [domain.state_type.model_validate(step.state) for step in case.trajectory]
    transitions = tuple(
        Transition(
            state=state,
            action=step.action,
            outcome=step.outcome,
            changes=domain.forecast_type(),
            observation=step.observation,
            next_state=after,
            reward=domain.outcomes[step.outcome].reward,
        )
        for step, state, after in zip(case.trajectory, states, [*states[1:], states[-1]], strict=True)
    )
    id = case.id or hashlib.sha256(case.model_dump_json().encode()).hexdigest()[:16]
    return Trajectory(f"{domain.name}-{id}", domain.name, source, case.when, transitions)
