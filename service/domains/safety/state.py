"""A construction site before an action."""

from typing import Literal

from pydantic import Field, field_validator

from service.vocabulary.frozen import Frozen
from service.vocabulary.proposal import State

Symptoms = Literal["none", "mild", "severe"]
Texts = tuple[str, ...]


class Environment(Frozen):
    """Weather and light on the site: degrees Celsius, percent, miles per hour, metres."""

    temperature_c: float | None = Field(default=None, ge=-60, le=65)
    humidity_pct: float | None = Field(default=None, ge=0, le=100)
    heat_index_c: float | None = Field(default=None, ge=-60, le=90)
    wind_mph: float | None = Field(default=None, ge=0, le=250)
    gust_mph: float | None = Field(default=None, ge=0, le=250)
    visibility: str = Field(default="", max_length=60, description="good, reduced, poor, night, fog ...")
    visibility_m: float | None = Field(default=None, ge=0, le=100_000)
    lighting: str = Field(default="", max_length=60)
    precipitation: str = Field(default="", max_length=60, description="none, light rain, heavy rain, snow, ice ...")
    lightning: bool | None = None
    ground: str = Field(default="", max_length=120)

    @property
    def gust(self) -> float | None:
        """The strongest wind measured, mph."""
        return max((v for v in (self.wind_mph, self.gust_mph) if v is not None), default=None)

    @property
    def felt_c(self) -> float | None:
        """Heat index in degrees Celsius, as given or by the NWS (Rothfusz) regression."""
        if self.heat_index_c is not None or self.temperature_c is None:
            return self.heat_index_c
        return felt(self.temperature_c, 50.0 if self.humidity_pct is None else self.humidity_pct)


class CrewStatus(Frozen):
    """The people who would do it; None is "not known"."""

    size: int | None = Field(default=None, ge=0, le=10_000)
    hours_on_site: float | None = Field(default=None, ge=0, le=48)
    minutes_since_break: float | None = Field(default=None, ge=0, le=1440)
    heat_trained: bool | None = None
    acclimatized: bool | None = None
    task_trained: bool | None = None
    briefed: bool | None = None
    supervisor_present: bool | None = None
    symptoms: Symptoms = "none"
    certifications: Texts = Field(default=(), max_length=40)
    observations: Texts = Field(default=(), max_length=40)

    @field_validator("certifications", "observations", mode="before")
    @classmethod
    def listed(cls, value: object) -> object:
        return listed(value)


class Equipment(Frozen):
    """A machine or tool; `wind_limit_mph` is its manufacturer's."""

    name: str = Field(max_length=120)
    wind_limit_mph: float | None = Field(default=None, gt=0, le=250)
    inspected: bool | None = None
    condition: str = Field(default="", max_length=200)


class Compliance(Frozen):
    """Permits and protections in place; None is "not known"."""

    status: str = Field(default="", max_length=500)
    permits: Texts = Field(default=(), max_length=40)
    missing: Texts = Field(default=(), max_length=40)
    atmospheric_test: bool | None = None
    attendant: bool | None = None
    fall_protection: bool | None = None
    trench_protection: bool | None = None
    lockout: bool | None = None


class SafetyState(State):
    """A site at one moment. `steps_elapsed` counts half-hours since the first action, which `work_started` recalls."""

    site_id: str = Field(default="", max_length=128)
    timestamp: str = Field(default="", max_length=64)
    task_description: str = Field(default="", max_length=4_000)
    environmental_conditions: Environment = Environment()
    crew_status: CrewStatus = CrewStatus()
    equipment_in_use: tuple[str | Equipment, ...] = Field(default=(), max_length=60)
    active_hazards: Texts = Field(default=(), max_length=60)
    recent_observations: Texts = Field(default=(), max_length=60)
    compliance_status: Compliance = Compliance()
    steps_elapsed: int = Field(default=0, ge=0, le=1_000)
    started_kind: str = Field(default="", max_length=64)
    work_started: str = Field(default="", max_length=300)

    @field_validator("equipment_in_use", "active_hazards", "recent_observations", mode="before")
    @classmethod
    def listed(cls, value: object) -> object:
        return listed(value)

    @field_validator("compliance_status", mode="before")
    @classmethod
    def worded(cls, value: object) -> object:
        """A bare word such as "compliant" is a status."""
        return {"status": value} if isinstance(value, str) else value


def listed(value: object) -> object:
    """A single text stands for a list of one."""
    return ((value,) if value else ()) if isinstance(value, str) else value


def felt(temperature_c: float, humidity_pct: float) -> float:
    """NWS heat index in degrees Celsius: Steadman's simple form below 80 F, Rothfusz (1990) above."""
    t, h = temperature_c * 9 / 5 + 32, humidity_pct
    f = (t + 0.5 * (t + 61.0 + (t - 68.0) * 1.2 + h * 0.094)) / 2
    if f >= 80:
        f = (
            -42.379
            + 2.04901523 * t
            + 10.14333127 * h
            - 0.22475541 * t * h
            - 6.83783e-3 * t * t
            - 5.481717e-2 * h * h
            + 1.22874e-3 * t * t * h
            + 8.5282e-4 * t * h * h
            - 1.99e-6 * t * t * h * h
        )
    return round((f - 32) * 5 / 9, 1)
