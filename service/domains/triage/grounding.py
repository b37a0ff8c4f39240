"""What the world model is told of a call, and where to look for a like one."""

from collections.abc import Iterator

from service.domains.triage import news2
from service.domains.triage.policy import disposition
from service.domains.triage.state import TriageState
from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.domain import Fact
from service.vocabulary.proposal import Action

_AGE_BANDS = (
    (0.25, "newborn"),
    (1, "infant"),
    (5, "toddler"),
    (16, "child"),
    (40, "adult"),
    (60, "middle"),
    (75, "older"),
    (200, "old"),
)
_PAIN_BANDS = ((4, "mild"), (7, "moderate"), (11, "severe"))
# name in the prompt, field; under the first number is `under`, above the second `over`, above the third `far_over`
_VITALS = (
    ("hr", "heart_rate", 51, 110, 130),
    ("rr", "resp_rate", 12, 20, 24),
    ("sbp", "sbp", 101, 219, 230),
    ("temp", "temp_c", 36.1, 37.9, 39.0),
    ("spo2", "spo2", 94, 100, 100),
    ("glucose", "glucose_mmol", 4, 11, 20),
)


def facts(state: TriageState, action: Action) -> tuple[Fact, ...]:
    """Numbers with their bands first, words last, so that long text never pushes out a number."""
    rows = (*_person(state), *_measures(state), *_signs(state), *_arguments(action), *_story(state))
    return tuple(fact for fact in rows if fact.value)


def _person(state: TriageState) -> Iterator[Fact]:
    who = state.caller_demographics
    if who.age is not None:
        yield Fact("age", _age(who.age))
    yield Fact("sex", who.sex[:1].lower() if who.sex not in ("other", "unknown") else "")
    yield Fact(
        "has", _listed((*who.conditions, *(("frail",) if who.frail else ()), *(("pregnant",) if who.pregnant else ())))
    )
    yield Fact("takes", _listed(who.medications, 60))


def _age(age: float) -> str:
    years = f"{age:.0f}" if age >= 2 else f"{age * 12:.0f}mo"
    return f"{years} {_band(age, _AGE_BANDS)}"


def _measures(state: TriageState) -> Iterator[Fact]:
    early = news2.score(state)
    if early is not None:
        yield Fact("news2", f"{early.total} {early.band}")
    for name, field, low, high, far in _VITALS:
        value = getattr(state.vitals, field)
        if value is not None:
            yield Fact(name, f"{value:g} {_vital_band(value, low, high, far)}")
    if state.vitals.consciousness not in (None, "A"):
        yield Fact("alert", "no")
    if state.symptom_details.severity is not None:
        yield Fact("pain", f"{state.symptom_details.severity:.0f} {_band(state.symptom_details.severity, _PAIN_BANDS)}")


def _vital_band(value: float, low: float, high: float, far: float) -> str:
    if value < low:
        return "under"
    return "ok" if value <= high else "over" if value <= far else "far_over"


def _band(value: float, bands: tuple[tuple[float, str], ...]) -> str:
    return next((word for limit, word in bands if value < limit), bands[-1][1])


def _signs(state: TriageState) -> Iterator[Fact]:
    told = state.symptom_details
    yield Fact("where", _clip(f"{told.location} {told.radiation}".strip(), 50))
    yield Fact("onset", _clip(told.onset or told.duration, 50))
    yield Fact("course", told.course)
    yield Fact("with", _listed(told.associated, 160))
    yield Fact("not", _listed(told.absent))
    yield Fact("flags", _listed(state.red_flags_identified))


def _arguments(action: Action) -> Iterator[Fact]:
    pairs = (f"{name}={value}" for name, value in action.arguments.items() if name != "disposition")
    yield Fact("arg", _clip(" ".join(pairs), 80))


def _story(state: TriageState) -> Iterator[Fact]:
    told = state.symptom_details
    if state.elapsed_hours:
        yield Fact("hours", f"{state.elapsed_hours:.0f}")
        yield Fact("plan", _clip(state.plan, 160), free=True)
        yield Fact("since", _clip("; ".join(state.follow_up[-2:]), 160), free=True)
    yield Fact("complaint", _clip(f"{state.chief_complaint} {told.character}".strip(), 300), free=True)
    spoken = [m.content for m in state.conversation_history if m.role.lower() not in ("assistant", "agent", "system")]
    for message in spoken[-2:]:
        yield Fact("said", _clip(message, 300), free=True)


def _listed(words: tuple[str, ...], limit: int = 100) -> str:
    return _clip(", ".join(word.replace("_", " ").lower() for word in words), limit)


def _clip(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rsplit(" ", 1)[0] + "…"


def anchor_key(state: TriageState, action: Action) -> AnchorKey:
    """Like calls are near in age band, complaint and advice."""
    category = _band(state.age, _AGE_BANDS) if state.age is not None else "unknown"
    words = (state.chief_complaint, *state.symptom_details.associated, disposition(action), action.text)
    return AnchorKey(category, round(state.elapsed_hours / 10), _clip(" ".join(words), 600))


def blend(imagined: TriageState, anchor: Anchor) -> TriageState:
    """The tempo of a real case: the course of its illness where the imagined one tells none; nothing else of the person."""
    course = anchor.changes.get("course", "")
    if imagined.symptom_details.course or course not in ("better", "same", "worse"):
        return imagined
    told = imagined.symptom_details.model_copy(update={"course": course})
    return imagined.model_copy(update={"symptom_details": told})
