"""What a triage line knows of a caller."""

from typing import Annotated, Literal

from pydantic import Field

from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import State

Phrase = Annotated[str, Field(max_length=300)]
Phrases = Annotated[tuple[Phrase, ...], Field(max_length=40)]
Course = Literal["", "better", "same", "worse"]
Sex = Literal["", "F", "M", "f", "m", "female", "male", "Female", "Male", "other", "unknown"]


class Demographics(Frozen):
    """Who is ill. `age` in years, fractions for infants (0.1 is five weeks)."""

    age: float | None = Field(default=None, ge=0, le=125)
    sex: Sex = ""
    conditions: Phrases = ()
    medications: Phrases = ()
    allergies: Phrases = ()
    pregnant: bool | None = None
    frail: bool | None = None
    lives_alone: bool | None = None


class Symptoms(Frozen):
    """What is felt. `severity` is the caller's own 0 to 10; `absent` lists what was asked about and denied."""

    location: str = Field(default="", max_length=200)
    severity: float | None = Field(default=None, ge=0, le=10)
    onset: str = Field(default="", max_length=200)
    duration: str = Field(default="", max_length=200)
    character: str = Field(default="", max_length=200)
    radiation: str = Field(default="", max_length=200)
    aggravating: Phrases = ()
    relieving: Phrases = ()
    associated: Phrases = ()
    absent: Phrases = ()
    course: Course = ""


class VitalSigns(Frozen):
    """Beats and breaths a minute, mmHg, °C, %, mmol/L; consciousness on ACVPU. `spo2_scale` 2 only on a clinician's word."""

    heart_rate: float | None = Field(default=None, ge=0, le=350)
    resp_rate: float | None = Field(default=None, ge=0, le=120)
    sbp: float | None = Field(default=None, ge=0, le=320)
    dbp: float | None = Field(default=None, ge=0, le=220)
    temp_c: float | None = Field(default=None, ge=20, le=46)
    spo2: float | None = Field(default=None, ge=0, le=100)
    spo2_scale: Literal[1, 2] = 1
    on_oxygen: bool = False
    consciousness: Literal["A", "C", "V", "P", "U"] | None = None
    glucose_mmol: float | None = Field(default=None, ge=0, le=100)


class Message(Frozen):
    """One turn of the call."""

    role: str = Field(max_length=32)
    content: str = Field(max_length=8_000)


class TriageState(State):
    """A call before advice is given; `elapsed_hours`, `disposition`, `plan` and `follow_up` tell of the time since."""

    case_id: str = Field(default="", max_length=128)
    caller_demographics: Demographics = Demographics()
    chief_complaint: str = Field(default="", max_length=4_000)
    symptom_details: Symptoms = Symptoms()
    vital_signs: VitalSigns | None = None
    conversation_history: tuple[Message, ...] = Field(default=(), max_length=200)
    red_flags_identified: Phrases = ()
    questions_asked: Phrases = ()
    elapsed_hours: float = Field(default=0, ge=0, le=2_000)
    disposition: str = Field(default="", max_length=64)
    plan: str = Field(default="", max_length=300)
    follow_up: Phrases = ()

    @property
    def age(self) -> float | None:
        return self.caller_demographics.age

    @property
    def woman(self) -> bool:
        return self.caller_demographics.sex.lower().startswith("f")

    @property
    def vitals(self) -> VitalSigns:
        return self.vital_signs or VitalSigns()
