"""What callers send. What they get back is the decision itself."""

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, JsonValue, StringConstraints

from service.guardrail import Options
from service.vocabulary.decision import OverrideRuling
from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import Action, Asker


class EvaluationRequest(Frozen):
    """A proposal: in this domain and state, this action is about to be taken."""

    domain: str = Field(min_length=1, max_length=64, examples=["safety"])
    state: dict[str, JsonValue] = Field(description="The domain's own state; its schema: GET /v1/domains/{name}")
    action: Action
    options: Options = Options()
    context: Asker = Asker()


class OverrideRequest(Frozen):
    """A supervisor's ruling on an escalation, and why."""

    ruling: OverrideRuling
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=8, max_length=2_000)] = Field(
        description="Why, in a sentence that will be read later"
    )


class OutcomeRequest(Frozen):
    """What really happened after a decision."""

    outcome: str = Field(max_length=64, description="A name on the domain's scale")
    at: AwareDatetime | None = Field(default=None, description="When; now, if it is not said")
    note: str = Field(default="", max_length=2_000)


class DomainStory(Frozen):
    """A domain as a caller needs to know it."""

    name: str
    briefing: str
    outcomes: tuple[dict[str, Any], ...]
    policy: dict[str, Any]
    state_schema: dict[str, Any]
    examples: tuple[dict[str, Any], ...]


class FieldProblem(Frozen):
    """Where in the request, as a JSON pointer, and what is wrong there."""

    pointer: str
    detail: str


class Problem(Frozen):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[FieldProblem, ...] = ()
