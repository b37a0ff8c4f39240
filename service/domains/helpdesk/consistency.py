"""What cannot be in the course of one ticket."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.domains.helpdesk.outcomes import OUTCOMES
from service.domains.helpdesk.state import Category, TicketState
from service.vocabulary.lexicon import lexicon
from service.vocabulary.rollout import Transition
from service.vocabulary.violation import Detector, Kind, Sighting, backwards, each_step, either, gone_on, stuck

MOODS = ("calm", "annoyed", "angry")
MOST_GROWTH = 4.0
"""Accounts affected at most double in a turn of the made history; twice that is beyond it."""
WORDS = lexicon(Path(__file__).with_name("lexicon.yaml"))
SAYS, OTHER = WORDS["says"], WORDS["other"]
TOPICS = {Category[name]: pattern for name, pattern in WORDS["topics"].items()}

GOOD = frozenset(("resolved", "progress"))
HARM = frozenset(("access_lockout", "service_outage", "data_exposure"))
ALL = frozenset(OUTCOMES.names)
MAY_BE_SAID: Mapping[str, frozenset[str]] = {
    "solved": frozenset(("resolved",)),
    "still_broken": ALL - GOOD,
    "upset": ALL - GOOD - {"continuing"},
    "given_up": frozenset(("abandoned",)),
    "handed_over": HARM | {"escalated"},
    "locked_out": frozenset(("access_lockout",)),
    "down": frozenset(("service_outage",)),
    "leaked": frozenset(("data_exposure",)),
}
"""Under which outcomes a line may say so."""
LAST = ("solved", "given_up", "handed_over")
DIAGNOSES = ("old_page", "expired_secret", "access_denied", "version_mismatch")
CLASH = {frozenset((a, b)) for a in DIAGNOSES for b in DIAGNOSES if a != b} | {
    frozenset(("old_page", "others_affected"))
}


def said(step: Transition) -> list[str]:
    """What the observation says, by name; hedged good news is none."""
    text = step.observation
    found = [name for name, pattern in SAYS.items() if pattern.search(text)]
    return [name for name in found if name != "solved" or not OTHER["partly"].search(text)]


def _contradicted(step: Transition) -> str:
    for name in said(step):
        if step.outcome not in MAY_BE_SAID[name]:
            return f"{step.outcome}, but {name}: {step.observation}"
    before, after = step.state.user_mood, step.changes.mood or step.state.user_mood
    if step.outcome == "frustrated" and MOODS.index(after) < MOODS.index(before):
        return f"frustrated, but {before} to {after}"
    if step.outcome in GOOD and MOODS.index(after) > MOODS.index(before):
        return f"{step.outcome}, but {before} to {after}"
    return (
        f"{step.outcome}, but the same error" if step.outcome in GOOD and step.changes.learned == "same_error" else ""
    )


def _drift(steps: Sequence[Transition]) -> Iterator[Sighting]:
    told = _told(steps[0])
    for turn, step in enumerate(steps):
        for topic, pattern in TOPICS.items():
            hit = pattern.search(OTHER["anywhere"].sub(" ", step.observation))
            if hit and topic is not steps[0].state.category and not pattern.search(told):
                yield turn, f"a ticket on {steps[0].state.category.value}: {hit[0]}"


def _told(step: Transition) -> str:
    """Everything that was on the table at the beginning."""
    state: TicketState = step.state
    talk = (message.content for message in state.conversation_history)
    return " ".join((state.description, step.action.text, state.environment.system, *state.information_gathered, *talk))


def _ended(step: Transition) -> str:
    """Closed, handed over or given up, in the label or in plain words."""
    if OUTCOMES[step.outcome].terminal:
        return step.outcome
    return next((f"{name}: {step.observation}" for name in said(step) if name in LAST), "")


def _leap(step: Transition) -> str:
    before, after = step.state.user_mood, step.next_state.user_mood
    return f"{before} to {after}" if abs(MOODS.index(before) - MOODS.index(after)) > 1 else ""


def _crowd(step: Transition) -> str:
    before, after = step.state.environment.accounts_affected, step.next_state.environment.accounts_affected
    if before is None or after is None or after == before:
        return ""
    shrunk, leapt = after < before and step.outcome not in GOOD, after > MOST_GROWTH * max(before, 2)
    return f"{before} to {after} accounts" if shrunk or leapt else ""


def _miscounted(step: Transition) -> str:
    return f"a failed attempt, {step.outcome}" if step.changes.failed and step.outcome in (*GOOD, "continuing") else ""


def _clashing(steps: Sequence[Transition]) -> Iterator[Sighting]:
    known: list[str] = []
    for turn, step in enumerate(steps):
        new = step.changes.learned
        yield from ((turn, f"{old}, then {new}") for old in known if frozenset((old, new)) in CLASH)
        known += [new] if new else []


DETECTORS: Mapping[str, Detector] = {
    Kind.problem_drift: _drift,
    Kind.contradiction: each_step(_contradicted),
    Kind.ignored_agent: either(stuck, each_step(lambda step: (OTHER["unheard"].search(step.observation) or [""])[0])),
    Kind.status_regression: gone_on(_ended),
    "mood_leap": each_step(_leap),
    "affected_drift": each_step(_crowd),
    "failed_drift": either(each_step(_miscounted), backwards("failed attempts", lambda state: state.failed_attempts)),
    "findings_clash": _clashing,
    "clock_backwards": backwards("turns", lambda state: state.turns_elapsed),
}
