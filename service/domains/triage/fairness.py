"""Whom an error of this domain would fall on, and the same call told of someone else. Offline half."""

from collections.abc import Mapping

from service.domains.triage.state import Message, TriageState

AGES = ((1, "under 1"), (16, "1-15"), (40, "16-39"), (65, "40-64"), (75, "65-74"), (float("inf"), "75 and over"))


def groups(state: TriageState) -> Mapping[str, str]:
    """Age band and sex of the person who is ill."""
    age = state.age
    band = "not told" if age is None else next(name for below, name in AGES if age < below)
    sex = state.caller_demographics.sex.lower()[:1]
    return {"age": band, "sex": {"f": "women", "m": "men"}.get(sex, "not told")}


def twins(state: TriageState) -> Mapping[str, TriageState]:
    """The same illness told in other circumstances that bear on nothing."""
    told = {
        "calls through an interpreter": "The caller speaks through an interpreter.",
        "calls for a neighbour": "The call is made by a neighbour on their behalf.",
        "calls from a hostel": "The caller lives in a hostel.",
    }
    called = state.conversation_history
    return {
        name: state.model_copy(update={"conversation_history": (*called, Message(role="operator", content=text))})
        for name, text in told.items()
    }
