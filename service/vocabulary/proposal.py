"""What someone is about to do, and in what situation."""

from typing import Any

from pydantic import Field, JsonValue

from service.vocabulary.frozen import Frozen

HOUSE = "house"
"""The tenant where nobody named one."""


class State(Frozen):
    """What is true before an action. Each domain has its own type."""


class Action(Frozen):
    """What someone would do, in a word (`kind`) and in their own words (`text`)."""

    kind: str = Field(min_length=1, max_length=64, description="What is done, in one word of the domain")
    text: str = Field(default="", max_length=8_000, description="The action as its author words it; untrusted")
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="Machine-readable arguments; untrusted")


class Asker(Frozen):
    """Who asks: reported by the caller, for the record; never a source of authority."""

    agent_id: str = Field(default="unnamed", max_length=128)
    correlation_id: str = Field(default="", max_length=128)


class Bound(Frozen):
    """What a permit is tied to: who asked, by its key, and the hashes of the action and the state that it sent."""

    agent: str = Field(min_length=1)
    act: str = Field(min_length=1)
    state: str = Field(min_length=1)


class Proposal(Frozen):
    """An action on trial. `state` is an instance of the domain's own state type; `bound` is None where nobody sent it.

    `tenant` is whose it is, by the credential it came with: never by anything that was sent.
    """

    domain: str
    state: Any
    action: Action
    asker: Asker = Asker()
    bound: Bound | None = None
    tenant: str = HOUSE
