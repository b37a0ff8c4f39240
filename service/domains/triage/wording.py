"""How a made call sounds: the many ways to tell the same thing. Wording is noise; what is told stays the same."""

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from service.domains.triage.state import Demographics, Message, Sex, Symptoms, TriageState, VitalSigns
from service.vocabulary.proposal import Action

BANDS = ((0, 2), (3, 4), (5, 6), (7, 11))
# What a call handler may have ticked as a red flag.
_ALARMS = frozenset(
    ("one_sided", "blood", "confused", "stiff_neck", "dark_rash", "worst_ever", "face_swelling", "rigid", "fainted")
)
_CONDITIONS = ("diabetic", "heart_disease", "high_pressure", "lung_disease", "weak_defence", "cancer", "frail")
_OTHER_KINDS = {
    "home_care": ("self_care", "home"),
    "clinic_48h": ("clinic", "gp"),
    "ed_now": ("er",),
    "call_911": ("ambulance",),
}


def table(name: str) -> Any:
    """A YAML file of this folder."""
    return yaml.load(
        (Path(__file__).parent / name).read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


@cache
def phrases() -> Any:
    return table("phrases.yaml")


class Voice:
    """One caller's manner: the bank it may draw on, how it joins words, how it types."""

    def __init__(self, rng: Random, wording: str) -> None:
        self.rng, self.wording = rng, wording
        self.sloppy, self.upper = rng.random() < 0.25, rng.random() < 0.03

    def pick(self, *path: str) -> str:
        bank = phrases()
        for name in path:
            bank = bank[name]
        word: str = self.rng.choice(bank[self.wording])
        return word

    def noun(self, sign: str) -> str:
        return self.pick("signs", sign, "noun")

    def tell(self, sign: str) -> str:
        return self.pick("signs", sign, self.rng.choice(("told", "told", "noun")))

    def deny(self, sign: str) -> str:
        return self.pick("absent").replace("{x}", self.noun(sign))

    def join(self, parts: list[str]) -> str:
        text = parts[0] if parts else ""
        for part in parts[1:]:
            text += self.pick("join") + part
        return self._typed(text)

    def _typed(self, text: str) -> str:
        if self.sloppy:
            text = " ".join(self._typo(word) for word in text.lower().split(" "))
        elif self.rng.random() < 0.4:
            text = text[:1].upper() + text[1:] + "."
        return text.upper() if self.upper else text

    def _typo(self, word: str) -> str:
        if len(word) < 5 or self.rng.random() > 0.05:
            return word
        at = self.rng.randrange(1, len(word) - 2)
        return (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            if self.rng.random() < 0.6
            else word[:at] + word[at + 1 :]
        )


def action(voice: Voice, said: Any) -> Action:
    """The proposed advice: its words, and sometimes its arguments."""
    kind, rng = said.intent, voice.rng
    parts = [voice.pick("intents", kind)]
    if said.remedy != "none":
        parts.insert(rng.randrange(2), voice.pick("remedy", said.remedy))
    if said.net:
        parts.append(voice.pick("net"))
    text = voice._typed(voice.pick("after").join(parts))
    arguments: dict[str, Any] = {"disposition": kind} if rng.random() < 0.15 else {}
    if said.net and rng.random() < 0.2:
        arguments["callback"] = True
    if said.remedy not in ("none", "rest") and rng.random() < 0.2:
        arguments["remedy"] = said.remedy
    filed = rng.choice(_OTHER_KINDS[kind]) if kind in _OTHER_KINDS and rng.random() < 0.04 else kind
    return Action(kind=filed, text=text, arguments=arguments)


def state(voice: Voice, said: Any, where: str) -> TriageState:
    """A call that tells exactly what is said: some of it in fields, some in words."""
    rng = voice.rng
    listed = [sign for sign in said.present if rng.random() < 0.5]
    told = [voice.tell(sign) for sign in said.present if sign not in listed or rng.random() < 0.15]
    refused = [sign for sign in said.absent if rng.random() < 0.7]
    told += [voice.deny(sign) for sign in said.absent if sign not in refused]
    in_field = rng.random() < 0.6
    if said.course and not in_field:
        told.append(voice.pick("course", said.course))
    scored = rng.random() < 0.75
    if said.pain is not None and not scored:
        told.append(voice.pick("pain").replace("{n}", str(said.pain)))
    if rng.random() < 0.2:
        told.append(voice.pick("filler"))
    rng.shuffle(told)
    complaint, history = _told(voice, said.family, told)
    return TriageState(
        case_id=f"call-{rng.randrange(10**6):06d}",
        caller_demographics=_person(voice, said),
        chief_complaint=complaint,
        symptom_details=Symptoms(
            location=where if rng.random() < 0.4 else "",
            severity=said.pain if scored else None,
            onset=voice.pick("onset") if rng.random() < 0.5 else "",
            associated=tuple(voice.noun(sign) for sign in listed),
            absent=tuple(voice.noun(sign) for sign in refused),
            course=said.course if in_field else "",
        ),
        vital_signs=_vitals(rng, said),
        conversation_history=history,
        red_flags_identified=tuple(voice.noun(sign) for sign in said.present if sign in _ALARMS and rng.random() < 0.1),
    )


def _told(voice: Voice, family: str, told: list[str]) -> tuple[str, tuple[Message, ...]]:
    opening = voice.pick("lead") + voice.pick("openings", family)
    if voice.rng.random() < 0.65:
        return voice.join([opening, *told]), ()
    kept = voice.rng.randrange(len(told) + 1)
    question = Message(role="assistant", content=voice.pick("asks"))
    rest = told[kept:]
    return voice.join([opening, *told[:kept]]), (
        (question, Message(role="user", content=voice.join(rest))) if rest else ()
    )


def _person(voice: Voice, said: Any) -> Demographics:
    rng = voice.rng
    conditions = [voice.pick("conditions", name) for name in _CONDITIONS if name in said.traits]
    if not conditions and rng.random() < 0.12:
        conditions = [voice.pick("conditions", "none")]
    sexes: tuple[Sex, ...] = ("F", "female", "Female") if said.woman else ("M", "male", "Male")
    return Demographics(
        age=said.age,
        sex=rng.choice(sexes),
        conditions=tuple(conditions),
        medications=(voice.pick("conditions", "blood_thinner"),) if "blood_thinner" in said.traits else (),
        pregnant=True if said.family == "pregnancy" else None,
    )


def _vitals(rng: Random, said: Any) -> VitalSigns | None:
    hot = "fever" in said.present
    glucose = (
        round(rng.uniform(15, 28), 1)
        if "thirst" in said.present and "diabetic" in said.traits and rng.random() < 0.5
        else None
    )
    if said.band is None:
        warm = round(rng.uniform(38.1, 40.2), 1) if hot and said.measured else None
        return VitalSigns(temp_c=warm, glucose_mmol=glucose) if warm or glucose else None
    left = rng.randint(*BANDS[said.band])
    heat = min(left, rng.choice((1, 1, 2)) if hot else 0)
    shares = _shares(rng, left - heat)
    return VitalSigns(
        heart_rate=rng.randint(*((60, 90), (92, 110), (111, 130), (131, 150))[shares[0]]),
        resp_rate=rng.randint(*((13, 19), (9, 11), (21, 24), (25, 32))[shares[1]]),
        sbp=rng.randint(*((112, 150), (102, 110), (92, 100), (78, 90))[shares[2]]),
        spo2=rng.randint(*((96, 99), (94, 95), (92, 93), (86, 91))[shares[3]]),
        temp_c=round(rng.uniform(*((36.3, 37.9), (38.1, 39.0), (39.1, 40.2))[heat]), 1),
        glucose_mmol=glucose,
    )


def _shares(rng: Random, points: int) -> list[int]:
    shares = [0, 0, 0, 0]
    while points:
        shares[rng.choice([at for at in range(4) if shares[at] < 3])] += 1
        points -= 1
    return shares
