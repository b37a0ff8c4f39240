"""What cannot be in the course of one illness."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.domains.triage.outcomes import OUTCOMES
from service.domains.triage.policy import disposition
from service.domains.triage.state import TriageState
from service.vocabulary.lexicon import lexicon
from service.vocabulary.rollout import Transition
from service.vocabulary.violation import Detector, Kind, Sighting, backwards, each_step, either, gone_on, stuck

MOST_PAIN, MOST_PULSE, SLACK = 4, 20, 5
"""Points of ten and beats a minute in ten hours: the made history moves by at most 3 and 16; `SLACK` beats are no sign of a course."""
WORDS = lexicon(Path(__file__).with_name("lexicon.yaml"))
PLACES, SAYS, SIGNS, COMPLAINTS = (WORDS[name] for name in ("places", "says", "signs", "complaints"))


def place(text: str) -> str:
    """The gravest place that a line names; "" for none."""
    told = SAYS["no_place"].sub(" ", text)
    return next((outcome for outcome, pattern in PLACES.items() if pattern.search(told)), "")


def _contradicted(step: Transition) -> str:
    text, outcome = step.observation, step.outcome
    there = place(text)
    if there and there != outcome:
        return f"{outcome}, but {there}: {text}"
    better, worse = SAYS["better"].search(text), SAYS["worse"].search(text)
    if OUTCOMES[outcome].severity and not there and better:
        return f"{outcome}, but {text}"
    course = step.changes.course
    if (course == "better" and worse and not better) or (course == "worse" and better and not worse):
        return f"course {course}, but {text}"
    return _against_course(step)


def _against_course(step: Transition) -> str:
    """Pain or pulse move the other way than the illness is said to go."""
    sign = {"better": 1, "worse": -1}.get(step.changes.course, 0)
    readings = (
        ("pain", step.state.symptom_details.severity, step.changes.pain, 0),
        ("pulse", step.state.vitals.heart_rate, step.changes.heart_rate, SLACK),
    )
    for name, before, now, slack in readings:
        if before is not None and now is not None and (now - before) * sign > slack:
            return f"course {step.changes.course}, but {name} from {before:g} to {now}"
    return ""


def _drift(steps: Sequence[Transition]) -> Iterator[Sighting]:
    told = _told(steps[0].state)
    for turn, step in enumerate(steps):
        new = f"{step.changes.new_sign}; {step.observation}"
        for system, signs in SIGNS.items():
            if (hit := signs.search(new)) and not COMPLAINTS[system].search(told) and not signs.search(told):
                yield turn, f"{system} out of nowhere: {hit[0]}"


def _told(state: TriageState) -> str:
    """Everything about the illness that the call began with."""
    symptoms, person = state.symptom_details, state.caller_demographics
    listed = (*symptoms.associated, *symptoms.absent, *state.red_flags_identified, *person.conditions)
    talk = (message.content for message in state.conversation_history)
    return " ".join((state.chief_complaint, symptoms.location, symptoms.radiation, symptoms.character, *listed, *talk))


def _ignored(step: Transition) -> str:
    text = step.observation
    sent = disposition(step.action) in ("ed_now", "call_911") and SAYS["at_home"].search(text)
    return f"{step.action.kind}, but {text}" if sent or SAYS["unheard"].search(text) else ""


def _ended(step: Transition) -> str:
    """Seen to, taken in or dead, in the label or in plain words; ten hours on, no phone call takes it up again."""
    if OUTCOMES[step.outcome].terminal:
        return step.outcome
    return f"{place(step.observation)}: {step.observation}" if place(step.observation) else ""


def _false_hope(step: Transition) -> str:
    alarming = step.changes.course == "better" and SAYS["alarming"].search(step.changes.new_sign)
    return f"better, with {step.changes.new_sign}" if alarming else ""


def _pain(step: Transition) -> str:
    before, now = step.state.symptom_details.severity, step.next_state.symptom_details.severity
    leapt = before is not None and now is not None and abs(now - before) > MOST_PAIN
    return f"pain from {before:g} to {now:g}" if leapt else ""


def _pulse(step: Transition) -> str:
    before, now = step.state.vitals.heart_rate, step.next_state.vitals.heart_rate
    leapt = before is not None and now is not None and abs(now - before) > MOST_PULSE
    return f"pulse from {before:g} to {now:g}" if leapt else ""


DETECTORS: Mapping[str, Detector] = {
    Kind.problem_drift: _drift,
    Kind.contradiction: each_step(_contradicted),
    Kind.ignored_agent: either(stuck, each_step(_ignored)),
    Kind.status_regression: gone_on(_ended),
    "false_hope": each_step(_false_hope),
    "pain_jump": each_step(_pain),
    "pulse_jump": each_step(_pulse),
    "clock_backwards": backwards("hours", lambda state: state.elapsed_hours),
}
