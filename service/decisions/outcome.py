"""What really happened after a decision."""

from pydantic import AwareDatetime, Field

from service.vocabulary.frozen import Frozen


class OutcomeReport(Frozen):
    """`outcome` is a name on the domain's scale; a later report corrects an earlier one, and both are kept."""

    decision_id: str
    outcome: str
    at: AwareDatetime
    reporter: str
    note: str = Field(default="", max_length=2_000)
