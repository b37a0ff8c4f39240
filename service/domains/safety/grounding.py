"""What the world model and the bank of recorded cases are told of a site."""

from collections.abc import Iterator
from itertools import chain

from service.domains.safety import policy
from service.domains.safety.reading import crane_work, gust, kind_of_work, machines, wind_limit
from service.domains.safety.state import Compliance, SafetyState
from service.vocabulary.anchor import Anchor, AnchorKey
from service.vocabulary.domain import Fact
from service.vocabulary.proposal import Action

CLIP = 300
BANDS = ((0.6, "low"), (0.85, "ok"), (1.0, "near"), (1.3, "over"), (float("inf"), "far_over"))
HEAT = ((27.0, "low"), (policy.HEAT_CAUTION_C, "near"), (policy.HEAT_DANGER_C, "over"), (float("inf"), "far_over"))
DARK, DIM = (
    ("night", "poor", "fog", "dark", "none", "zero"),
    ("reduced", "moderate", "dusk", "dawn", "haze", "dim", "low", "glare"),
)
YES_NO = {True: "yes", False: "no"}
PAPERS = ("atmospheric_test", "attendant", "fall_protection", "trench_protection", "lockout")


def band(value: float, limit: float) -> str:
    """A word for a value against its limit."""
    return next(word for share, word in BANDS if value <= share * limit)


def heat_band(felt_c: float) -> str:
    return "cold" if felt_c <= 0 else next(word for top, word in HEAT if felt_c < top)


def visibility_band(state: SafetyState) -> str:
    """good, reduced, poor, or "" when nothing is said."""
    weather = state.environmental_conditions
    said = f"{weather.visibility} {weather.lighting}".lower()
    if any(word in said for word in DARK) or (weather.visibility_m or 1e9) < policy.VISIBILITY_M:
        return "poor"
    if any(word in said for word in DIM):
        return "reduced"
    return "good" if said.strip() or weather.visibility_m is not None else ""


def _limit(state: SafetyState, action: Action) -> float:
    return wind_limit(state, action) if crane_work(state, action) else policy.WORK_WIND_MPH


def _weather(state: SafetyState, action: Action) -> Iterator[Fact]:
    weather = state.environmental_conditions
    if (measured := gust(state, action)) is not None:
        from_words = weather.gust is None or measured > weather.gust
        yield Fact("gust", f"{measured:.0f} {band(measured, _limit(state, action))}", from_words)
    if (felt_c := weather.felt_c) is not None:
        yield Fact("heat", f"{felt_c:.0f} {heat_band(felt_c)}")
    yield Fact("sight", visibility_band(state))
    yield Fact(
        "rain",
        weather.precipitation.lower() if weather.precipitation.lower() not in ("none", "no", "dry") else "",
        True,
    )
    yield Fact("lightning", "yes" if weather.lightning else "")


def _crew(state: SafetyState) -> Iterator[Fact]:
    crew = state.crew_status
    if crew.hours_on_site is not None:
        yield Fact("hours", f"{crew.hours_on_site:.0f} {band(crew.hours_on_site, policy.SHIFT_HOURS)}")
    if crew.minutes_since_break is not None:
        yield Fact(
            "since break", f"{crew.minutes_since_break:.0f} {band(crew.minutes_since_break, policy.BREAK_MINUTES)}"
        )
    yield Fact("symptoms", crew.symptoms if crew.symptoms != "none" else "")
    yield Fact("crew", str(crew.size or ""))
    for name, value in (
        ("trained", crew.task_trained),
        ("heat trained", crew.heat_trained),
        ("acclimatized", crew.acclimatized),
        ("briefed", crew.briefed),
        ("supervisor", crew.supervisor_present),
    ):
        yield Fact(name, "" if value is None else YES_NO[value])


def _papers(paper: Compliance) -> Iterator[Fact]:
    for name in PAPERS:
        value = getattr(paper, name)
        yield Fact(name.replace("_", " "), "" if value is None else YES_NO[value])
    yield Fact(
        "papers", clip(", ".join((paper.status, *(f"missing {item}" for item in paper.missing))).strip(", "), 100), True
    )


def _arguments(action: Action) -> Iterator[Fact]:
    for name, value in list(action.arguments.items())[:4]:
        if isinstance(value, bool | int | float | str):
            yield Fact(f"arg {name[:24]}", clip(str(value).lower(), 40), True)


def _words(state: SafetyState) -> Iterator[Fact]:
    yield Fact("task", clip(state.task_description, 160), True)
    yield Fact("machines", clip(machines(state), 80), True)
    yield Fact("hazards", clip(", ".join(state.active_hazards[-4:]), 120), True)
    yield Fact("crew notes", clip(". ".join(state.crew_status.observations[-3:])), True)
    yield Fact("seen", clip(". ".join(state.recent_observations[-3:])), True)
    yield Fact("before", clip(state.work_started, 120), True)


def facts(state: SafetyState, action: Action) -> tuple[Fact, ...]:
    """Numbers with their bands first, people's words last; nothing is said about what is not known."""
    started = Fact("later", state.started_kind if state.steps_elapsed else "")
    told = chain(
        (started,),
        _weather(state, action),
        _crew(state),
        _papers(state.compliance_status),
        _arguments(action),
        _words(state),
    )
    return tuple(fact for fact in told if fact.value)


def clip(text: str, length: int = CLIP) -> str:
    """The start of a text, to the last whole word that fits."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[:length].rsplit(" ", 1)[0]


def anchor_key(state: SafetyState, action: Action) -> AnchorKey:
    """Where like work is found: kind of work, half-hours gone by, and all that is told of it."""
    told = "; ".join(f"{fact.name} {fact.value}" for fact in facts(state, action) if fact.name != "later")
    return AnchorKey(kind_of_work(state, action), state.steps_elapsed, f"{told}; {action.kind}: {clip(action.text)}")


def blend(imagined: SafetyState, anchor: Anchor) -> SafetyState:
    """Half of the real case's rise in gusts, and nothing else: a real calm never lowers an imagined wind."""
    real = anchor.state.get("environmental_conditions") or {}
    before, after = real.get("gust_mph"), anchor.changes.get("gust_mph")
    weather = imagined.environmental_conditions
    if weather.gust_mph is None or not isinstance(before, int | float) or not isinstance(after, int | float):
        return imagined
    risen = min(weather.gust_mph + max(0.0, (after - before) / 2), 120.0)
    return imagined.model_copy(update={"environmental_conditions": weather.model_copy(update={"gust_mph": risen})})
