"""Faults for tickets: written from what a person would find odd, not from how they are looked for."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from service.domains.helpdesk.reference import DOMAIN, FAMILIES, OBSERVATIONS, PHRASES
from service.vocabulary.planted import Plant, Steps, mild, retold
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.violation import Kind

KNOWN, OTHER = Split.seen, Split.unseen_wording
GOOD_NEWS = {
    KNOWN: OBSERVATIONS["resolved"],
    OTHER: [
        "The user can work again.",
        "No complaints left, done.",
        "Success, ticket may be closed.",
        "That did the trick.",
    ],
}
BAD_NEWS = {
    KNOWN: [line for outcome in ("abandoned", "access_lockout", "service_outage") for line in OBSERVATIONS[outcome]],
    OTHER: [
        "The booking system collapsed.",
        "Managers find their accounts disabled.",
        "The payroll file is on the internet.",
        "Nothing loads for any customer.",
    ],
}
CLOSED = {
    KNOWN: [line for outcome in ("resolved", "abandoned", "escalated") for line in OBSERVATIONS[outcome]],
    OTHER: [*GOOD_NEWS[OTHER], "A colleague has the case now.", "The user cancelled the request."],
}
UNHEARD = {
    KNOWN: [
        "The user asks why nobody answers.",
        "No one from the desk has called so far.",
        "The ticket lies there unassigned.",
        "The user says the desk has been silent.",
        "Still no one has taken the ticket.",
    ],
    OTHER: [
        "The agent's question went nowhere.",
        "Not a single reply came from the helpdesk.",
        "User wonders if the desk is still there.",
        "The message from the desk was not delivered.",
        "User says support left him alone with it.",
    ],
}
"""The known ones were at hand when the detectors were written; the others were written afterwards and changed nothing."""
FINDINGS = ("old_page", "expired_secret", "access_denied", "version_mismatch")


def drift(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """A line of a ticket of quite another kind."""
    mine = FAMILIES[scenario.family]["category"]
    family = rng.choice([name for name, row in FAMILIES.items() if row["category"] not in (mine, "Password/Account")])
    app = rng.choice(FAMILIES[family]["apps"])
    line = rng.choice(PHRASES[wording]["tasks", family]).replace("{app}", app)
    line = line.replace("{who}", "the user").replace("{role}", "the partner")
    return retold(DOMAIN, steps, rng.randrange(len(steps)), said=line)


def contradiction(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """Good news told of bad outcomes, and the other way about."""
    turn = rng.randrange(len(steps))
    outcome = steps[turn].outcome
    if outcome in ("resolved", "progress", "continuing"):
        return retold(DOMAIN, steps, turn, said=rng.choice(BAD_NEWS[wording]))
    if outcome == "frustrated" and steps[turn].state.user_mood != "calm" and rng.random() < 0.5:
        return retold(DOMAIN, steps, turn, mood="calm")
    return retold(DOMAIN, steps, turn, said=rng.choice(GOOD_NEWS[wording]))


def ignored(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    return retold(DOMAIN, steps, rng.randrange(len(steps)), said=rng.choice(UNHEARD[wording]))


def reopened(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """Solved, given up or handed over, and the next turn knows nothing of it."""
    turns = [turn for turn in mild(DOMAIN, steps) if turn + 1 < len(steps)]
    if not turns:
        return None
    return retold(DOMAIN, steps, rng.choice(turns), said=rng.choice(CLOSED[wording]))


def mood(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turns = [turn for turn, step in enumerate(steps) if step.state.user_mood != "annoyed"]
    if not turns:
        return None
    turn = rng.choice(turns)
    return retold(DOMAIN, steps, turn, mood="angry" if steps[turn].state.user_mood == "calm" else "calm")


def crowd(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """Far fewer, or far more, from one turn to the next."""
    turns = [turn for turn, step in enumerate(steps) if (step.state.environment.accounts_affected or 0) > 3]
    turns = [turn for turn in turns if steps[turn].outcome not in ("resolved", "progress")]
    if not turns:
        return None
    turn = rng.choice(turns)
    count = steps[turn].state.environment.accounts_affected or 0
    return retold(DOMAIN, steps, turn, affected=rng.choice((rng.randrange(count), count * rng.randrange(6, 40))))


def attempts(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """A count of failures that moves when nothing failed, or is forgotten."""
    turn = rng.randrange(len(steps))
    if turn and steps[turn].state.failed_attempts and rng.random() < 0.5:
        forgot = steps[turn].state.model_copy(update={"failed_attempts": 0})
        return (*steps[:turn], replace(steps[turn], state=forgot), *steps[turn + 1 :])
    turns = [turn for turn, step in enumerate(steps) if step.outcome in ("resolved", "progress", "continuing")]
    return retold(DOMAIN, steps, rng.choice(turns), failed=True) if turns else None


def clash(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """Two reasons for one fault."""
    if len(steps) < 2:
        return None
    first, second = sorted(rng.sample(range(len(steps)), 2))
    one, other = rng.sample(FINDINGS, 2)
    return retold(DOMAIN, retold(DOMAIN, steps, first, learned=one), second, learned=other)


def clock(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turns = [turn for turn, step in enumerate(steps) if step.state.turns_elapsed]
    if not turns:
        return None
    turn = rng.choice(turns)
    early = steps[turn].next_state.model_copy(update={"turns_elapsed": steps[turn].state.turns_elapsed - 1})
    return (*steps[:turn], replace(steps[turn], next_state=early), *steps[turn + 1 :])


PLANTS: Mapping[str, Plant] = {
    Kind.problem_drift: drift, Kind.contradiction: contradiction, Kind.ignored_agent: ignored,
    Kind.status_regression: reopened, "mood_leap": mood, "affected_drift": crowd, "failed_drift": attempts,
    "findings_clash": clash, "clock_backwards": clock,
}  # fmt: skip
