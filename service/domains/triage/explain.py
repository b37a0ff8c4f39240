"""What a supervisor is shown: values against published limits, safer advice, and what nobody has asked yet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from service.domains.triage import news2
from service.domains.triage.policy import disposition
from service.domains.triage.rules import hard_rules
from service.domains.triage.state import TriageState
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.rollout import Rollout
from service.vocabulary.verdict import RiskFactor

_NEAR = 0.15


@dataclass(frozen=True, slots=True)
class Limit:
    """A published limit: above `at`, or below it where `below` is set, is abnormal."""

    name: str
    unit: str
    at: float
    source: str
    measure: Callable[[TriageState], float | None]
    below: bool = False

    def exceeded(self, value: float) -> bool:
        return value <= self.at if self.below else value >= self.at

    def near(self, value: float) -> bool:
        return abs(value - self.at) <= _NEAR * self.at


def _adult(field: str) -> Callable[[TriageState], float | None]:
    def measure(state: TriageState) -> float | None:
        child = state.age is not None and state.age < news2.ADULT_FROM
        value: float | None = None if child else getattr(state.vitals, field)
        return value

    return measure


def _total(state: TriageState) -> float | None:
    early = news2.score(state)
    return None if early is None else early.total


_LIMITS = (
    Limit("NEWS2", "points", 5, news2.SOURCE, _total),
    Limit("respiratory rate", "/min", 22, "qSOFA (Sepsis-3, 2016)", _adult("resp_rate")),
    Limit("systolic pressure", "mmHg", 100, "qSOFA (Sepsis-3, 2016)", _adult("sbp"), below=True),
    Limit("heart rate", "/min", 111, news2.SOURCE, _adult("heart_rate")),
    Limit("oxygen saturation", "%", 93, news2.SOURCE, _adult("spo2"), below=True),
    Limit("temperature", "°C", 39.1, news2.SOURCE, lambda state: state.vitals.temp_c),
    Limit("glucose", "mmol/L", 11.1, "JBDS 02 (ketoacidosis)", lambda state: state.vitals.glucose_mmol),
    Limit("pain", "of 10", 7, "Emergency Severity Index v4", lambda state: state.symptom_details.severity),
    Limit("red flags", "identified", 1, "Manchester Triage System", lambda state: len(state.red_flags_identified)),
)
# A temperature or a saturation is never within 15 % of its limit in a telling way: the whole human range is.
_NARROW = ("temperature", "oxygen saturation")


def risk_factors(proposal: Proposal, adverse: Sequence[Rollout]) -> tuple[RiskFactor, ...]:
    """Values over their limit first, then those within 15 % of it."""
    found = [_factor(limit, proposal.state, adverse) for limit in _LIMITS]
    shown = [factor for factor in found if factor is not None]
    return tuple(sorted(shown, key=lambda factor: not factor.exceeded))


def _factor(limit: Limit, state: TriageState, adverse: Sequence[Rollout]) -> RiskFactor | None:
    value = limit.measure(state)
    seen = sum(_seen(limit, rollout) for rollout in adverse)
    if value is None or not (limit.exceeded(value) or seen or (limit.near(value) and limit.name not in _NARROW)):
        return None
    return RiskFactor(limit.name, value, limit.unit, limit.at, limit.source, limit.exceeded(value), seen)


def _seen(limit: Limit, rollout: Rollout) -> bool:
    return any((value := limit.measure(state)) is not None and limit.exceeded(value) for state in _states(rollout))


def _states(rollout: Rollout) -> Iterable[TriageState]:
    for step in rollout.steps:
        yield step.transition.state
        yield step.transition.next_state


_CALL = Action(kind="call_911", text="Call an ambulance now and stay with the patient.")
_ED = Action(kind="ed_now", text="Go to the emergency department now; do not drive yourself.")
_URGENT = Action(kind="urgent_care", text="Be seen face to face at urgent care today, within four hours.")


def alternatives(proposal: Proposal) -> tuple[Action, ...]:
    """Sooner care than proposed: an ambulance first when a never-miss rule is broken."""
    ladder = (_CALL, _ED) if hard_rules(proposal) else (_ED, _URGENT, _CALL)
    return tuple(action for action in ladder if action.kind != disposition(proposal.action))


# (words of the complaint, what shows that it was asked, question)
_BY_COMPLAINT = (
    (
        ("chest", "indigestion", "heartburn", "jaw", "arm"),
        ("radiat", "spread"),
        "Does it spread to the arm, jaw, neck or back?",
    ),
    (
        ("chest", "indigestion", "heartburn", "jaw"),
        ("exert", "walking", "stairs"),
        "Does it come on or worsen with walking or stairs?",
    ),
    (
        ("chest", "indigestion", "stomach", "heartburn"),
        ("sweat", "clammy"),
        "Is there sweating, nausea or breathlessness with it?",
    ),
    (("head", "migraine"), ("sudden", "gradual", "thunder"), "Did the headache reach its worst within a minute?"),
    (("head", "migraine", "fever"), ("neck",), "Is the neck stiff, or does light hurt?"),
    (("fall", "fell", "head", "hit", "bump"), ("thinner", "anticoag", "warfarin"), "Do you take a blood thinner?"),
    (("tummy", "stomach", "belly", "abdom", "pelvi"), ("blood", "black"), "Is there blood, or black stool or vomit?"),
    (("fever", "hot", "temperature"), ("rash",), "Is there a rash that stays when pressed with a glass?"),
    (("breath", "cough", "wheez"), ("sentence",), "Can you speak a whole sentence in one breath?"),
    (("dizz", "weak", "numb", "faint"), ("speech", "face"), "Is the face uneven, an arm weak, or speech slurred?"),
    (("vomit", "sick", "diarr", "throwing"), ("fluid", "drink"), "Can fluids be kept down, and is urine being passed?"),
    (("leg", "calf", "ankle"), ("calf", "swollen"), "Is one calf swollen, and is there any chest pain?"),
)
_FEMALE_ABDOMEN = ("tummy", "stomach", "belly", "abdom", "pelvi", "period")


def questions(state: TriageState) -> tuple[str, ...]:
    """Three to five questions about what this call has left open, most telling first."""
    asked = " ".join((*state.questions_asked, *state.symptom_details.associated, *state.symptom_details.absent)).lower()
    return tuple(dict.fromkeys((*_complaint_questions(state, asked), *_missing(state))))[:5]


def _complaint_questions(state: TriageState, asked: str) -> list[str]:
    words = f"{state.chief_complaint} {state.symptom_details.location}".lower()
    told = f"{asked} {words} {state.symptom_details.onset} {state.symptom_details.radiation}".lower()
    open_ones = [
        q for about, shown, q in _BY_COMPLAINT if any(w in words for w in about) and not any(s in told for s in shown)
    ]
    if (
        state.woman
        and 11 < (state.age or 0) < 55
        and any(word in words for word in _FEMALE_ABDOMEN)
        and "pregn" not in told
    ):
        open_ones.insert(0, "Could there be a pregnancy, and when was the last period?")
    return open_ones[:3]


def _missing(state: TriageState) -> list[str]:
    who, told, vitals = state.caller_demographics, state.symptom_details, state.vitals
    diabetic = any("diab" in condition.lower() for condition in who.conditions)
    rows = (
        (diabetic and vitals.glucose_mmol is None, "What is the blood glucose now?"),
        (who.age is None, "How old is the patient?"),
        (not told.onset, "When did it start, and how suddenly?"),
        (state.vital_signs is None, "Can pulse, temperature and breathing rate be measured now?"),
        (told.severity is None, "How bad is it from 0 to 10?"),
        (not told.course, "Is it getting better or worse?"),
        (not who.conditions, "Any long-standing illness, such as heart disease or diabetes?"),
        (not who.medications, "Which medicines are taken, blood thinners included?"),
        (True, "Is anyone with the patient who can call back if it worsens?"),
        (True, "Has anything changed since the call began?"),
        (True, "Has this happened before, and what was found then?"),
    )
    return [question for missing, question in rows if missing]
