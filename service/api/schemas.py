"""What callers send. What they get back is the decision itself."""

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, StringConstraints, model_validator

from service.decisions.switches import SwitchCode
from service.guardrail import Options
from service.vocabulary.decision import Mode, OverrideCode, OverrideRuling
from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import Action, Asker


class EvaluationRequest(Frozen):
    """A proposal: in this domain and state, this action is about to be taken."""

    domain: str = Field(min_length=1, max_length=64, examples=["safety"])
    state: dict[str, JsonValue] = Field(description="The domain's own state; its schema: GET /v1/domains/{name}")
    action: Action
    options: Options = Options()
    context: Asker = Asker()


Reasoned = Annotated[str, StringConstraints(strip_whitespace=True, min_length=8, max_length=2_000)]


class OverrideRequest(Frozen):
    """A supervisor's ruling, and why: on an escalation either way, on an approval a denial."""

    ruling: Literal[OverrideRuling.approved, OverrideRuling.denied]
    code: Literal[
        OverrideCode.mitigated,
        OverrideCode.risk_accepted,
        OverrideCode.evidence_wrong,
        OverrideCode.emergency,
        OverrideCode.unsafe,
        OverrideCode.other,
    ] = Field(description="Why, in a word that can be counted")
    reason: Reasoned = Field(description="Why, in a sentence that will be read later")
    action: Action | None = Field(
        default=None,
        description="Only with `approved`: this action instead. It is simulated as any other, and decides anew",
    )

    @model_validator(mode="after")
    def _edits_to_approve(self) -> Self:
        if self.action is not None and self.ruling is not OverrideRuling.approved:
            raise ValueError("an edited action goes with ruling approved")
        return self


class StateRequest(Frozen):
    """The state as it is right before the action is carried out, as whole as it was sent to be judged."""

    state: dict[str, JsonValue]


Ticket = Annotated[
    str,
    Field(
        pattern=r"^([A-Z]{1,12}[-#]?[0-9]{1,12})?$",
        description="INC-123: where the whole reason is; it stays in the audit chain as it is",
    ),
]


class ErasureRequest(Frozen):
    """Why the free text of a decision must go. A sentence here could name whom it is about, and would stay."""

    code: Literal["asked_by_the_person", "retention_ended", "recorded_by_mistake", "ordered"]
    ticket: Ticket = ""


class SwitchRequest(Frozen):
    """Off or on again, and why."""

    off: bool
    code: SwitchCode
    ticket: Ticket = ""


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


class Unawaited(Frozen):
    """A proposal in shadow mode that is not decided yet, or will not be: nothing is enforced, go on."""

    decision_id: str | None = Field(description="Where the decision will be found, if nothing fails; null: nowhere")
    mode: Literal[Mode.shadow]
    recorded: Literal[False]
    detail: str


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
