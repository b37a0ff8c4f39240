"""What cannot be in the course of one shift."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.domains.safety.outcomes import SCALE
from service.domains.safety.policy import SAFE_KINDS
from service.domains.safety.reading import WORK, machines
from service.domains.safety.state import SafetyState
from service.vocabulary.lexicon import lexicon
from service.vocabulary.rollout import Transition
from service.vocabulary.severity import Severity
from service.vocabulary.violation import Detector, Kind, Sighting, backwards, each_step, either, gone_on, stuck

MOST_GUST = 10
"""Miles per hour in half an hour; the made history never rises by more than 7, nor falls by more than 1."""
SYMPTOMS = ("none", "mild", "severe")
MILD = frozenset(("risk_mitigated", "no_incident", "neutral"))
ADVERSE = frozenset(outcome.name for outcome in SCALE if outcome.severity > Severity.none)

WORDS = lexicon(Path(__file__).with_name("lexicon.yaml"))
SAYS, CAUSES = WORDS["says"], WORDS["causes"]
TRADES = (*WORK, *WORDS["trades"].items())
"""What is read of an order, and a little more, for a line in a diary orders nothing."""


def _harmed(text: str) -> bool:
    return SAYS["harmed"].search(SAYS["unhurt"].sub(" ", text)) is not None


def _contradicted(step: Transition) -> str:
    text, outcome = step.observation, step.outcome
    clashes = (
        outcome not in ADVERSE and _harmed(text),
        outcome in ADVERSE and (SAYS["quiet"].search(text) or SAYS["finished"].search(text)) and not _harmed(text),
        outcome != "no_incident" and SAYS["finished"].search(text),
        outcome == "elevated_risk" and SAYS["quiet"].search(text),
        outcome in MILD and SAYS["worsening"].search(text),
        outcome in ("elevated_risk", *ADVERSE) and SAYS["controlled"].search(text),
        outcome in ("neutral", "no_incident") and step.changes.hazard,
    )
    return f"{outcome}, but {step.changes.hazard}: {text}" if any(clashes) else _another_cause(step)


def _another_cause(step: Transition) -> str:
    """The hazard in the log is one thing and the line in the diary another."""
    named = [hazard for hazard, pattern in CAUSES.items() if pattern.search(step.observation)]
    if step.changes.hazard and named and step.changes.hazard not in named:
        return f"{step.changes.hazard}, but {step.observation}"
    before, now = step.state.environmental_conditions.gust_mph, step.changes.gust_mph
    falling = before is not None and now is not None and now <= before - 3
    return f"wind rising, from {before:g} to {now} mph" if step.changes.hazard == "wind rising" and falling else ""


def _drift(steps: Sequence[Transition]) -> Iterator[Sighting]:
    """Work that was on nobody's plan: neither in task, action or equipment, nor in what was noted before."""
    opening: SafetyState = steps[0].state
    notes = (*opening.recent_observations, *opening.active_hazards, *opening.crew_status.observations)
    told = " ".join((opening.task_description, steps[0].action.kind, steps[0].action.text, machines(opening), *notes))
    known = {kind for kind, pattern in TRADES if pattern.search(told) or steps[0].action.kind.startswith(kind[:4])}
    for turn, step in enumerate(steps):
        for kind, pattern in TRADES:
            if kind not in known and (hit := pattern.search(step.observation)):
                yield turn, f"{kind} out of nowhere: {hit[0]}"


def _ignored(step: Transition) -> str:
    """Work goes on although it was stopped, or an order reached nobody."""
    text = step.observation
    held = step.action.kind in SAFE_KINDS and SAYS["at_work"].search(text)
    return f"{step.action.kind}, but {text}" if held or SAYS["unheard"].search(text) else ""


def _ended(step: Transition) -> str:
    """Finished, or somebody hurt, in the label or in plain words."""
    if SCALE[step.outcome].terminal:
        return step.outcome
    text = step.observation
    return text if SAYS["finished"].search(text) or _harmed(text) else ""


def _recovered(steps: Sequence[Transition]) -> Iterator[Sighting]:
    """Who has collapsed is not at work again half an hour later."""
    worst = 0
    for turn, step in enumerate(steps):
        now = SYMPTOMS.index(step.next_state.crew_status.symptoms)
        worst = max(worst, SYMPTOMS.index(step.state.crew_status.symptoms))
        if worst == 2 and now < 2:
            yield turn, f"severe to {SYMPTOMS[now]}"
            worst = now


def _gusts(step: Transition) -> str:
    before, now = step.state.environmental_conditions.gust_mph, step.next_state.environmental_conditions.gust_mph
    if before is None or now is None or abs(now - before) <= MOST_GUST:
        return ""
    return f"{before:g} to {now:g} mph in half an hour"


def _flickered(step: Transition) -> str:
    """A hazard that came up in this half-hour is not on the list at its end."""
    hazard = step.changes.hazard
    return f"{hazard} came and went" if hazard and hazard not in step.next_state.active_hazards else ""


DETECTORS: Mapping[str, Detector] = {
    Kind.problem_drift: _drift,
    Kind.contradiction: each_step(_contradicted),
    Kind.ignored_agent: either(stuck, each_step(_ignored)),
    Kind.status_regression: gone_on(_ended),
    "uncollapsed": _recovered,
    "gust_jump": each_step(_gusts),
    "hazard_flicker": each_step(_flickered),
    "clock_backwards": either(
        backwards("half-hours", lambda state: state.steps_elapsed),
        backwards("hours on site", lambda state: state.crew_status.hours_on_site),
    ),
}
