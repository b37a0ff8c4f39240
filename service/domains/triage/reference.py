"""A made history of triage calls. No patient is in it: it is a hand-written process whose odds are known exactly.

It exists so that a model can be trained and judged before a user brings a real history, which then replaces it. Its numbers
are chosen for their shape (atypical hearts, frail vital signs, newborn fevers), not measured; do not read them as medicine.
A hidden cause and pace are drawn from what a call leaves open, then ten hours at a time the illness shows itself, or does not.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from math import cos, pi
from random import Random
from typing import Any

from service.domains.triage import DOMAIN, wording
from service.domains.triage.forecast import TriageChanges
from service.domains.triage.outcomes import OUTCOMES, appropriateness
from service.domains.triage.state import TriageState
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.rollout import Trajectory, Transition

SOURCE = "reference:triage"
COURSES = ("better", "same", "worse")
INTENTS = ("home_care", "clinic_48h", "urgent_care", "ed_now", "call_911", "ask")
_INTENT_WEIGHTS = (0.56, 0.31, 0.035, 0.035, 0.03, 0.03)
_REMEDIES = ("none", "antacid", "paracetamol", "fluids", "rest", "nsaid")
_MISHEARD = 0.03
_PACES = ((0.75, 0.5), (1.3, 0.5))
_BY_STEP = (1.0, 0.85, 0.75, 0.65, 0.55)
_BY_COURSE = {"": 1.0, "better": 0.6, "same": 1.0, "worse": 1.4}
_NEXT_COURSE = {"benign": (0.5, 0.38, 0.12), "middle": (0.22, 0.4, 0.38)}
_NEXT_COURSE_BAD = (0.1, 0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Care:
    """What a disposition does: times the harm at first and later, times its critical part, odds of a clinic visit by step."""

    first: float
    later: float
    critical: float
    ward: float
    clinic: tuple[float, ...]


_CARE = {
    "home_care": Care(1.0, 1.0, 1.0, 1.0, (0.02, 0.03, 0.05, 0.05, 0.05)),
    "clinic_48h": Care(0.92, 0.9, 0.9, 1.0, (0.08, 0.2, 0.4, 0.5, 0.5)),
    "urgent_care": Care(1.5, 0.4, 0.35, 0.7, (0.7, 0.2, 0.1, 0.1, 0.1)),
    "ed_now": Care(1.8, 0.25, 0.22, 1.15, (0.35, 0.2, 0.1, 0.1, 0.1)),
    "call_911": Care(1.9, 0.2, 0.17, 1.2, (0.3, 0.2, 0.1, 0.1, 0.1)),
    "ask": Care(0.8, 0.9, 0.8, 1.0, (0.05, 0.1, 0.1, 0.1, 0.1)),
}


@dataclass(frozen=True, slots=True)
class Said:
    """All that a call and its advice tell. `band` is of NEWS2; `wording` names the bank and tells nothing."""

    family: str
    age: float
    woman: bool
    traits: frozenset[str]
    present: tuple[str, ...]
    absent: tuple[str, ...]
    band: int | None
    pain: int | None
    course: str
    intent: str
    remedy: str
    net: bool
    measured: bool
    wording: str = field(default="seen", compare=False)


@dataclass(frozen=True, slots=True)
class Hidden:
    """What nobody is told: the cause, its profile, and how fast it shows itself."""

    cause: str
    profile: str
    pace: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the illness has come, as the latest state tells it."""

    step: int
    course: str


@cache
def _tables() -> Any:
    return wording.table("causes.yaml")


def posterior(said: Said) -> tuple[tuple[Hidden, ...], tuple[float, ...]]:
    """Every hidden state that the call leaves open, with its probability, by enumeration."""
    tables = _tables()
    hidden, weights = [], []
    for cause, prior in tables["families"][said.family]["causes"].items():
        profile = tables["causes"][cause]
        weight = prior * _raise(said, cause) * _heard(said, cause) * _measured(said, tables["profiles"][profile])
        for pace, share in _PACES:
            hidden.append(Hidden(cause, profile, pace))
            weights.append(weight * share)
    total = sum(weights)
    return tuple(hidden), tuple(weight / total for weight in weights)


def _raise(said: Said, cause: str) -> float:
    times = 1.0
    for row in _tables()["raises"]:
        if row["cause"] == cause and said.traits.issuperset(row["when"]):
            times *= row["times"]
    return times


def sign_odds(traits: frozenset[str], sign: str, cause: str) -> float:
    """P(the sign is there | cause), as it shows in this person."""
    row = _tables()["signs"][sign]
    odds: float = row.get(cause, row["other"])
    if cause == "heart" and "atypical" in traits:
        odds = min(odds * _tables()["atypical"].get(sign, 1.0), 0.9)
    return odds


def _heard(said: Said, cause: str) -> float:
    weight = 1.0
    for sign in said.present:
        weight *= _MISHEARD + (1 - 2 * _MISHEARD) * sign_odds(said.traits, sign, cause)
    for sign in said.absent:
        weight *= 1 - _MISHEARD - (1 - 2 * _MISHEARD) * sign_odds(said.traits, sign, cause)
    return weight


def _measured(said: Said, profile: Any) -> float:
    weight: float = profile["course"][COURSES.index(said.course)] if said.course else 1.0
    if said.band is not None:
        weight *= profile["warning"][said.band]
    if said.pain is not None:
        weight *= profile["pain"][_pain_band(said.pain)]
    return weight


def _pain_band(pain: int) -> int:
    return 0 if pain <= 3 else 1 if pain <= 6 else 2


def odds(said: Said, z: Hidden, progress: Progress) -> tuple[float, ...]:
    """P(outcome) over the scale for the next ten hours."""
    care, profile = _CARE[said.intent], _tables()["profiles"][z.profile]
    harm = min(profile["hazard"] * z.pace * _frailty(said) * _BY_COURSE[progress.course] + _wrong_remedy(said), 0.93)
    harm = min(harm * _BY_STEP[min(progress.step, 4)] * (care.later if progress.step else care.first), 0.94)
    _, ward, icu, death = profile["shares"]
    grave = care.critical * (0.6 if said.net else 1.0) * (1.8 if "frail" in said.traits else 1.0)
    icu, death, ward = icu * grave, death * grave, min(ward * care.ward, 0.7)
    clinic = (1 - harm) * care.clinic[min(progress.step, 4)]
    return (1 - harm - clinic, clinic, harm * (1 - ward - icu - death), harm * ward, harm * icu, harm * death)


def _frailty(said: Said) -> float:
    times = 1.35 if "frail" in said.traits and (said.band or 0) >= 2 else 1.0
    return times * (1.25 if "weak_defence" in said.traits and "fever" in said.present else 1.0)


def _wrong_remedy(said: Said) -> float:
    """An anti-inflammatory on top of a blood thinner, or in the very old, harms by itself."""
    if said.remedy != "nsaid":
        return 0.0
    return 0.18 if "blood_thinner" in said.traits else 0.05 if "old" in said.traits else 0.0


def opening_odds(said: Said) -> tuple[float, ...]:
    """P(outcome) of the first ten hours given all that a call tells."""
    rows = [
        [share * p for p in odds(said, z, Progress(0, said.course))] for z, share in zip(*posterior(said), strict=True)
    ]
    return tuple(map(sum, zip(*rows, strict=True)))


def _course_odds(z: Hidden) -> tuple[float, float, float]:
    return _NEXT_COURSE.get(z.profile, _NEXT_COURSE_BAD)


@dataclass(frozen=True, slots=True)
class TriageReference:
    """The process as the offline rooms see it."""

    def scenario(self, rng: Random, split: Split = Split.seen) -> Scenario:
        said = _draw(rng, split)
        voice = wording.Voice(rng, said.wording)
        where = rng.choice(_tables()["families"][said.family]["where"])
        return Scenario(wording.state(voice, said, where), wording.action(voice, said), said.family, said)

    def trajectory(self, rng: Random, scenario: Scenario, horizon: int, id: str) -> Trajectory:
        said: Said = scenario.said
        voice = wording.Voice(rng, said.wording)
        z = rng.choices(*posterior(said))[0]
        state, action, progress = scenario.state, scenario.action, Progress(0, said.course)
        steps: list[Transition] = []
        while len(steps) < horizon and not (steps and OUTCOMES[steps[-1].outcome].terminal):
            step = _step(rng, voice, said, z, progress, state, action)
            steps.append(step)
            state, action = step.next_state, DOMAIN.continuation(step.next_state)
            progress = Progress(progress.step + 1, step.changes.course)
        return Trajectory(id, DOMAIN.name, SOURCE, _when(rng, said.family), tuple(steps))

    def risk(self, rng: Random, scenario: Scenario, horizon: int, samples: int) -> float:
        said: Said = scenario.said
        threshold = DOMAIN.adverse_from(Action(kind=said.intent))
        bad = tuple(outcome.severity >= threshold for outcome in OUTCOMES)
        drawn = rng.choices(*posterior(said), k=samples)
        return sum(_harm(rng, said, z, horizon, bad) for z in drawn) / samples


def _harm(rng: Random, said: Said, z: Hidden, horizon: int, bad: tuple[bool, ...]) -> float:
    """1 - the chance of coming through, along a path drawn among those that do."""
    through, course, ways = 1.0, said.course, _course_odds(z)
    for step in range(horizon):
        chances = odds(said, z, Progress(step, course))
        good = sum(chance for chance, is_bad in zip(chances, bad, strict=True) if not is_bad)
        through *= good
        if rng.random() * good >= chances[0]:  # not settled, yet not adverse: seen to, and over
            break
        at = rng.random()
        course = COURSES[0 if at < ways[0] else 1 if at < ways[0] + ways[1] else 2]
    return 1 - through


def _step(
    rng: Random, voice: wording.Voice, said: Said, z: Hidden, progress: Progress, state: TriageState, action: Action
) -> Transition:
    chances = odds(said, z, progress)
    outcome = rng.choices(OUTCOMES.names, chances)[0]
    course = "" if OUTCOMES[outcome].terminal else rng.choices(COURSES, _course_odds(z))[0]
    changes = _changes(rng, voice, said, z, state, course) if course else TriageChanges()
    observation = voice.pick("observations", course or outcome)
    after = DOMAIN.advance(state, action, Forecast(outcome, {}, changes, observation))
    known = dict(zip(OUTCOMES.names, chances if progress.step else opening_odds(said), strict=True))
    return Transition(state, action, outcome, changes, observation, after, appropriateness(said.intent, outcome), known)


_PAIN_DRIFT = {"better": (-3, -1), "same": (0, 0), "worse": (0, 2)}
_PULSE_DRIFT = {"better": (-10, -2), "same": (-3, 3), "worse": (4, 16)}


def _changes(
    rng: Random, voice: wording.Voice, said: Said, z: Hidden, state: TriageState, course: Any
) -> TriageChanges:
    pain, pulse = state.symptom_details.severity, state.vitals.heart_rate
    return TriageChanges(
        course=course,
        pain=None
        if pain is None or course == "same"
        else round(min(max(pain + rng.randint(*_PAIN_DRIFT[course]), 0), 10)),
        heart_rate=None if pulse is None else round(max(pulse + rng.randint(*_PULSE_DRIFT[course]), 45)),
        new_sign=_new_sign(rng, voice, said, z) if course == "worse" and rng.random() < 0.35 else "",
    )


def _new_sign(rng: Random, voice: wording.Voice, said: Said, z: Hidden) -> str:
    told = (*said.present, *said.absent, "well")
    open_signs = [sign for sign in _tables()["families"][said.family]["signs"] if sign not in told]
    if not open_signs:
        return ""
    sign = rng.choices(open_signs, [sign_odds(said.traits, sign, z.cause) for sign in open_signs])[0]
    return voice.noun(sign)


_WINTER = ("cold", "fever", "breath", "gut")
_END = datetime(2026, 11, 1, tzinfo=UTC)


def _when(rng: Random, family: str) -> datetime:
    """Within the 30 months before November 2026; coughs and fevers crowd into winter."""
    while True:
        when = _END - timedelta(minutes=rng.randrange(1, 913 * 24 * 60))
        winter = 0.55 + 0.45 * cos(2 * pi * (when.timetuple().tm_yday - 20) / 365)
        if family not in _WINTER or rng.random() < winter:
            return when


_YOUNG_FAMILIES = ("fever", "gut", "cold", "skin", "head_injury", "breath", "belly", "eye")
# trait, P at 18 to 39, at 40 to 64, from 65
_TRAITS = (
    ("diabetic", 0.05, 0.2, 0.25),
    ("heart_disease", 0.01, 0.1, 0.25),
    ("high_pressure", 0.03, 0.2, 0.4),
    ("lung_disease", 0.1, 0.1, 0.15),
    ("weak_defence", 0.03, 0.05, 0.06),
    ("cancer", 0.01, 0.04, 0.08),
    ("frail", 0.0, 0.01, 0.22),
    ("blood_thinner", 0.01, 0.06, 0.22),
)


def _draw(rng: Random, split: Split) -> Said:
    """A call: its person, what is told of a leading cause, and the advice. The cause itself is drawn anew for each history."""
    families = {
        k: v for k, v in _tables()["families"].items() if v.get("held_out", False) is (split is Split.unseen_family)
    }
    family = rng.choices(list(families), [row["weight"] for row in families.values()])[0]
    harmless = rng.random() < 0.37
    age, woman = _age(rng, family, harmless), family == "pregnancy" or rng.random() < 0.52
    traits = _traits(rng, age, woman, harmless)
    cause = _leading(rng, families[family]["causes"], traits, harmless)
    profile = _tables()["profiles"]["benign" if harmless else _tables()["causes"][cause]]
    present, absent = _signs(rng, families[family]["signs"], traits, cause, harmless)
    intent = rng.choices(INTENTS, _INTENT_WEIGHTS)[0]
    return Said(
        family=family,
        age=age,
        woman=woman,
        traits=traits,
        present=present,
        absent=absent,
        band=_band(rng, age, profile, harmless),
        pain=None if rng.random() < 0.35 else _pain(rng, profile),
        course="" if rng.random() < 0.35 else rng.choices(COURSES, profile["course"])[0],
        intent=intent,
        remedy=_remedy(rng, family) if intent in ("home_care", "clinic_48h") and rng.random() < 0.6 else "none",
        net=intent != "ask" and rng.random() < 0.3,
        measured=rng.random() < 0.5,
        wording="unseen" if split is Split.unseen_wording else "seen",
    )


def _age(rng: Random, family: str, harmless: bool) -> float:
    if family == "pregnancy":
        return rng.randint(18, 43)
    if family in _YOUNG_FAMILIES and rng.random() < 0.35:
        months = rng.choice((rng.randint(1, 5), rng.randint(3, 23), rng.randint(24, 190), rng.randint(24, 190)))
        return round(months / 12, 2) if months < 24 else months // 12
    return rng.randint(17, 60) if harmless else rng.randint(17, 93)


def _traits(rng: Random, age: float, woman: bool, harmless: bool) -> frozenset[str]:
    column = 1 if age < 40 else 2 if age < 65 else 3
    ill = 0.35 if harmless else 1.0
    traits = {row[0] for row in _TRAITS if age >= 16 and rng.random() < float(row[column]) * ill}
    bounds = (("newborn", 0, 0.25), ("infant", 0, 1), ("child", 0, 16), ("young", 16, 40), ("forty", 40, 200))
    traits |= {name for name, low, high in (*bounds, ("sixty", 60, 200), ("old", 75, 200)) if low <= age < high}
    if woman:
        traits.add("woman")
    if "old" in traits or ("diabetic" in traits and ("sixty" in traits or {"woman", "forty"} <= traits)):
        traits.add("atypical")
    return frozenset(traits)


def _leading(rng: Random, causes: dict[str, float], traits: frozenset[str], harmless: bool) -> str:
    """Dangerous causes lead more calls than they would in life, so that there is something to learn."""
    kinds = _tables()["causes"]
    want = (
        ("benign",)
        if harmless or rng.random() < 0.22
        else ("middle",)
        if rng.random() < 0.2
        else ("grave", "septic", "firm")
    )
    fitting = [cause for cause in causes if kinds[cause] in want] or list(causes)
    probe = Said("", 0, False, traits, (), (), None, None, "", "ask", "none", False, False)
    return rng.choices(fitting, [causes[cause] * _raise(probe, cause) for cause in fitting])[0]


def _signs(
    rng: Random, known: list[str], traits: frozenset[str], cause: str, harmless: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    present, absent = [], []
    for sign in known:
        true = rng.random() < sign_odds(traits, sign, cause)
        if rng.random() < _MISHEARD * (0.3 if harmless else 1):
            true = not true
        if true and rng.random() < 0.8:
            present.append(sign)
        elif not true and sign != "well" and rng.random() < 0.22:
            absent.append(sign)
    rng.shuffle(present)
    rng.shuffle(absent)
    return tuple(present[:6]), tuple(absent[:4])


def _band(rng: Random, age: float, profile: Any, harmless: bool) -> int | None:
    if age < 16 or rng.random() > 0.45:
        return None
    return 0 if harmless else rng.choices((0, 1, 2, 3), profile["warning"])[0]


def _pain(rng: Random, profile: Any) -> int:
    low, high = rng.choices(((1, 3), (4, 6), (7, 10)), profile["pain"])[0]
    return rng.randint(low, high)


def _remedy(rng: Random, family: str) -> str:
    first = {
        "stomach": "antacid",
        "chest": "antacid",
        "gut": "fluids",
        "limb": "nsaid",
        "urine": "fluids",
        "belly": "antacid",
    }
    return first.get(family, "paracetamol") if rng.random() < 0.5 else rng.choice(_REMEDIES)


REFERENCE = TriageReference()
