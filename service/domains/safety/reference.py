"""MADE HISTORY, not anyone's record: sites, crews and accidents drawn from a hand-written process (odds.py).

It gives the small model something to learn and the tests exact odds to hold it to, until a user brings real records.
The hidden causes are never worded; wording (phrases.yaml) is noise given what is `Said`.
"""

from bisect import bisect
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import yaml

from service.domains.safety.domain import Safety
from service.domains.safety.forecast import Hazard, SafetyChanges
from service.domains.safety.odds import (
    ADVERSE,
    BENIGN,
    HIDDEN,
    SIGNS,
    STRAIN,
    TRADES,
    Odds,
    Progress,
    Said,
    Z,
    posterior,
    priors,
    start,
)
from service.domains.safety.outcomes import SCALE
from service.domains.safety.state import Compliance, CrewStatus, Environment, Equipment, SafetyState, Symptoms
from service.vocabulary.forecast import Forecast
from service.vocabulary.proposal import Action
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.rollout import Trajectory, Transition

Bank = Mapping[str, Any]
SITE = Safety()
INTENTS = {
    "careful": 19,
    "routine": 21,
    "minor": 15,
    "rush": 9,
    "skip_briefing": 10,
    "shorten_break": 7,
    "bypass": 9,
    "carry_on": 10,
}
KINDS = {
    "minor": "proceed",
    "skip_briefing": "skip_briefing",
    "shorten_break": "shorten_break",
    "bypass": "remove_guard",
    "carry_on": "proceed",
}
BARE = {"electrical": "lockout", "confined": "atmospheric_test", "excavation": "trench_protection"}
MACHINES = {
    "crane_lift": ("mobile crane", "tower crane"),
    "steel": ("boom lift",),
    "concrete": ("concrete pump", "vibrator"),
    "paving": ("paver", "roller"),
    "excavation": ("excavator",),
    "plant": ("dumper", "forklift", "telehandler"),
    "demolition": ("high reach machine",),
    "hot_work": ("welder", "torch"),
}
SIGHT = (("good", "clear", "daylight"), ("reduced", "dusk", "haze", "moderate"), ("poor", "night", "fog", "dark"))
SYMPTOMS: tuple[Symptoms, ...] = ("none", "mild", "severe")
CAUSES: tuple[tuple[str, Hazard], ...] = (
    ("wind", "wind rising"),
    ("tired", "crew tiring"),
    ("gear", "equipment trouble"),
    ("zone", "people in the zone"),
    ("general", ""),
)
LAST, DAYS = datetime(2026, 11, 1, tzinfo=UTC), 913


@cache
def phrases() -> dict[str, Bank]:
    found: dict[str, Bank] = yaml.load(
        Path(__file__).with_name("phrases.yaml").read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    return found


def pick(rng: Random, bank: Bank, unseen: bool) -> str:
    return str(rng.choice(bank["unseen" if unseen and "unseen" in bank else "seen"]))


def levels(rng: Random, said: Said) -> Z:
    """Hidden causes before any sign."""
    w, s, g, e = (min(bisect(list(accumulate(prior)), rng.random()), len(prior) - 1) for prior in priors(said))
    return w, s, g, e


def situation(rng: Random, family: str) -> dict[str, Any]:
    """The numbers of a day: half of the days are kind throughout."""
    bad = rng.choices((0.0, 0.3, 0.75), (50, 22, 28))[0]
    trade = TRADES[family]
    limit = rng.choice((20, 20, 20, 15, 25, 28)) if family == "crane_lift" else 30
    share = rng.uniform(0.8, 1.75) if rng.random() < bad else rng.uniform(0.05, 0.75)
    felt = rng.uniform(30, 44) if rng.random() < bad else rng.uniform(-4, 27)
    hours = rng.randint(8, 13) if rng.random() < bad else rng.randint(0, 8)
    dark = rng.choice((1, 2)) if rng.random() < bad * 0.5 else 0
    return {
        "gust": round(share * limit) if rng.random() < 0.45 + trade.wind / 2 else None,
        "limit": limit,
        "felt": felt if rng.random() < 0.6 + trade.heat / 3 else None,
        "hours": hours if rng.random() < 0.85 else None,
        "dark": dark,
        "trained": rng.choices((None, True, False), (70, 22 * (1.2 - bad), 20 * bad))[0],
        "briefed": rng.choices((None, True, False), (65, 30 * (1.2 - bad), 16 * bad))[0],
    }


def environment(rng: Random, day: Mapping[str, Any], spoken: bool) -> Environment:
    """The day as an instrument sheet; a spoken gust is left to the notes."""
    given: dict[str, Any] = (
        {"visibility" if rng.random() < 0.6 else "lighting": rng.choice(SIGHT[day["dark"]])}
        if day["dark"] or rng.random() < 0.4
        else {}
    )
    if day["gust"] is not None and not spoken:
        given["gust_mph" if rng.random() < 0.88 else "wind_mph"] = day["gust"]
        if "gust_mph" in given and rng.random() < 0.6:
            given["wind_mph"] = round(day["gust"] * rng.uniform(0.5, 0.9))
    if day["felt"] is not None:
        given |= heat_sheet(rng, day["felt"])
    if rng.random() < 0.25:
        given["precipitation"] = rng.choice(("none", "none", "dry", "light rain"))
    return Environment(**given)


def heat_sheet(rng: Random, felt_c: float) -> dict[str, float]:
    """Temperature alone, with humidity, or with the heat index."""
    way = rng.random()
    if way < 0.4:
        return {"temperature_c": round(felt_c - max(0.0, felt_c - 27) * 0.5), "heat_index_c": round(felt_c)}
    humidity = {} if way < 0.65 else {"humidity_pct": float(rng.randint(35, 65))}
    return {"temperature_c": round(felt_c - max(0.0, felt_c - 27) * 0.4), **humidity}


def scruffy(rng: Random, text: str) -> str:
    """People's typing: case, stops left out, the odd slip of a finger."""
    way = rng.random()
    text = text.lower() if way < 0.15 else text.upper() if way < 0.18 else text.rstrip(".") if way < 0.3 else text
    if rng.random() < 0.08 and len(text) > 12:
        at = rng.randrange(2, len(text) - 2)
        text = (
            text[:at] + text[at + 1] + text[at] + text[at + 2 :] if rng.random() < 0.5 else text[:at] + text[at + 1 :]
        )
    return text


def order(rng: Random, family: str, intent: str, barehanded: bool, unseen: bool) -> str:
    """The action in someone's words."""
    bank = phrases()
    work = bank["families"][family]
    line = pick(rng, work["bypass"] if barehanded else bank["intents"][intent], unseen)
    line = line.format(job=pick(rng, work["jobs"], unseen)) if "{job}" in line else line
    opening = pick(rng, bank["openings"], unseen)
    line = opening + (line[0].lower() + line[1:] if opening else line)
    return line + pick(rng, bank["closings"], unseen)


def notes(rng: Random, said: Said, spoken: bool, unseen: bool) -> tuple[list[str], list[str]]:
    """Crew notes and site notes, in no order, with something beside the point."""
    bank = phrases()
    crew: list[str] = []
    site: list[str] = []
    for sign in said.signs:
        text = scruffy(rng, pick(rng, bank["signs"][sign], unseen))
        (crew if SIGNS[sign][0] == STRAIN and rng.random() < 0.7 else site).append(text)
    if spoken:
        site.append(
            f"{rng.choice(('gusts', 'gusting', 'wind'))} {rng.choice(('at', 'of', 'now', 'around'))} {said.gust} mph"
        )
    if rng.random() < 0.25:
        site.append(pick(rng, bank["fillers"], unseen))
    rng.shuffle(site)
    rng.shuffle(crew)
    return crew, site


def machines(rng: Random, said: Said) -> tuple[str | Equipment, ...]:
    if said.family == "crane_lift" and said.limit != 20:
        return (Equipment(name=rng.choice(MACHINES["crane_lift"]), wind_limit_mph=said.limit),)
    named = MACHINES.get(said.family, ())
    return (rng.choice(named),) if named and rng.random() < 0.6 else ()


def papers(rng: Random, said: Said) -> Compliance:
    if said.barehanded and rng.random() < 0.4:
        return Compliance.model_validate({BARE[said.family]: False})
    if said.intent == "careful" and rng.random() < 0.4:
        return Compliance(status=rng.choice(("compliant", "permits current", "all permits in place")))
    return Compliance()


class Made:
    """The process: scenarios, their histories, and their exact odds."""

    def scenario(self, rng: Random, split: Split = Split.seen) -> Scenario:
        held_out = split is Split.unseen_family
        family = rng.choice([name for name, trade in TRADES.items() if trade.held_out is held_out])
        intent = rng.choice(BENIGN) if rng.random() < 0.12 else rng.choices(list(INTENTS), list(INTENTS.values()))[0]
        day, unseen = situation(rng, family), split is Split.unseen_wording
        spoken = day["gust"] is not None and rng.random() < 0.14
        weather = environment(rng, day, spoken)
        bare = intent == "bypass" and "bypass" in phrases()["families"][family] and rng.random() < 0.6
        said = Said(family, intent, **(day | {"felt": weather.felt_c}), barehanded=bare and family in BARE)
        z = levels(rng, said)
        signs = tuple(name for name, (cause, likelihood) in SIGNS.items() if rng.random() < likelihood[z[cause]])
        said = Said(**{name: getattr(said, name) for name in Said.__slots__} | {"signs": signs})
        return Scenario(
            self._state(rng, said, weather, spoken, unseen), self._action(rng, said, bare, unseen), family, said
        )

    def _state(self, rng: Random, said: Said, weather: Environment, spoken: bool, unseen: bool) -> SafetyState:
        crew, site = notes(rng, said, spoken, unseen)
        hazards, site = (site[:1], site[1:]) if site and rng.random() < 0.25 else ([], site)
        return SafetyState(
            site_id=f"S{rng.randint(1, 40)}",
            task_description=scruffy(rng, pick(rng, phrases()["families"][said.family]["tasks"], unseen)),
            environmental_conditions=weather,
            equipment_in_use=machines(rng, said),
            active_hazards=tuple(hazards),
            recent_observations=tuple(site),
            compliance_status=papers(rng, said),
            crew_status=CrewStatus(
                size=rng.randint(2, 14) if rng.random() < 0.6 else None,
                hours_on_site=said.hours,
                task_trained=said.trained,
                briefed=said.briefed,
                symptoms="mild" if "dizzy" in said.signs and rng.random() < 0.4 else "none",
                observations=tuple(crew),
            ),
        )

    def _action(self, rng: Random, said: Said, bare: bool, unseen: bool) -> Action:
        kind = KINDS.get(said.intent, TRADES[said.family].kind) if said.intent not in BENIGN else said.intent
        kind = "proceed" if rng.random() < 0.2 and said.intent not in BENIGN else kind
        arguments: dict[str, Any] = {"crew": rng.randint(2, 9)} if rng.random() < 0.1 else {}
        return Action(
            kind=kind, text=scruffy(rng, order(rng, said.family, said.intent, bare, unseen)), arguments=arguments
        )

    def trajectory(self, rng: Random, scenario: Scenario, horizon: int, id: str) -> Trajectory:
        """One history of the scenario; the first intent colours every step, as the state that follows recalls."""
        odds, progress, state, action = Odds(scenario.said), start(scenario.said), scenario.state, scenario.action
        z, told = rng.choices(HIDDEN, posterior(scenario.said))[0], scenario.state.crew_status.symptoms
        steps: list[Transition] = []
        while len(steps) < horizon and not (steps and SCALE[steps[-1].outcome].terminal):
            probabilities = odds.of(z, progress)
            known = dict(zip(SCALE.names, probabilities if steps else odds.opening(), strict=True))
            outcome, gust = rng.choices(SCALE.names, probabilities)[0], progress.gust
            odds.drift(rng, z, progress)
            changes, observation = aftermath(rng, scenario.said, z, progress, outcome, gust, told)
            forecast = Forecast(outcome, dict(zip(SCALE.names, probabilities, strict=True)), changes, observation)
            after = SITE.advance(state, action, forecast)
            steps.append(Transition(state, action, outcome, changes, observation, after, SCALE[outcome].reward, known))
            state, action, told = after, SITE.continuation(after), after.crew_status.symptoms
        return Trajectory(id, SITE.name, "reference:safety", day_of(rng, scenario.said), tuple(steps))

    def risk(self, rng: Random, scenario: Scenario, horizon: int, samples: int) -> float:
        return Odds(scenario.said).risk(rng, horizon, samples)


def aftermath(
    rng: Random, said: Said, z: Z, progress: Progress, outcome: str, gust: int, told: Symptoms
) -> tuple[SafetyChanges, str]:
    """What a half-hour leaves behind: new readings, a hazard, and a line in the diary."""
    windy = TRADES[said.family].wind * (z[0] + 2 * (said.gust is not None and progress.gust > said.limit))
    name, hazard = rng.choices(CAUSES, (windy, z[1] + progress.symptoms, z[2] * 1.5, z[3] * 1.5, 0.4))[0]
    troubled = outcome == "elevated_risk" or outcome in ADVERSE
    bank = f"{'adverse' if outcome in ADVERSE else 'elevated'}_{name}" if troubled else outcome
    symptoms = SYMPTOMS[progress.symptoms]
    changes = SafetyChanges(
        gust_mph=progress.gust if progress.gust != gust else None,
        symptoms=symptoms if symptoms != told else None,
        hazard=hazard if troubled else "",
    )
    return changes, pick(rng, phrases()["observations"][bank], False)


def day_of(rng: Random, said: Said) -> datetime:
    """A day in the 30 months before November 2026, hot ones in summer and cold ones in winter."""
    felt_c = 15.0 if said.felt is None else said.felt
    months = range(5, 10) if felt_c > 29 else (11, 12, 1, 2, 3) if felt_c < 7 else range(1, 13)
    while (when := LAST - timedelta(minutes=rng.randint(1, DAYS * 1440))).month not in months:
        pass
    return when


REFERENCE = Made()
