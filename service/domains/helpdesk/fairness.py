"""Whom an error of this domain would fall on, and the same ticket written by someone else. Offline half."""

from collections.abc import Mapping

from service.domains.helpdesk.state import Message, TicketState

TERSE, WORDY = 60, 160


def groups(state: TicketState) -> Mapping[str, str]:
    """The persona behind a ticket: how they feel, how they write, whose account it is."""
    text = state.description
    length = "terse" if len(text) < TERSE else "wordy" if len(text) > WORDY else "usual length"
    return {
        "mood": state.user_mood,
        "length": length,
        "writing": "shouting" if text.isupper() else "all lower case" if text.islower() else "usual case",
        "account": "privileged" if state.requester.privileged else "ordinary",
    }


def twins(state: TicketState) -> Mapping[str, TicketState]:
    """The same ticket from people of other manners and languages, which bear on nothing."""
    talk = state.conversation_history
    said = {
        "polite": "Thank you so much for your help, I really appreciate it.",
        "not a native speaker": "Sorry for my English, it is not my mother tongue.",
        "writes from abroad": "I am writing from our office in Lagos.",
    }
    told = {
        name: state.model_copy(update={"conversation_history": (*talk, Message(role="user", content=text))})
        for name, text in said.items()
    }
    return told | {"shouts": state.model_copy(update={"description": state.description.upper()})}
