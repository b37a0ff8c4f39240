"""Faults for shifts: written from what a foreman would find odd, not from how they are looked for."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from service.domains.safety.odds import BENIGN
from service.domains.safety.reference import SITE, phrases
from service.vocabulary.planted import Plant, Steps, mild, retold
from service.vocabulary.proposal import Action
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.violation import Kind

KNOWN, OTHER = Split.seen, Split.unseen_wording
HURT = (
    "A man was killed by the load.",
    "She burnt her hand.",
    "Electrician got a shock.",
    "Worker buried up to the waist.",
)
FINE = ("Nothing happened.", "Good half hour, no trouble.", "Everyone fine.", "Ended well.")
GOING_ON = {
    KNOWN: (
        "The crew kept lifting.",
        "Pour continues at full speed.",
        "They went ahead anyway.",
        "Gang pressed on with it.",
    ),
    OTHER: (
        "Nobody stopped, they finished the lift.",
        "The hammering never ceased.",
        "Beam is up.",
        "The truck emptied its load into the form.",
        "They worked through.",
    ),
}
"""The known ones were at hand when the detectors were written; all others were written afterwards and changed nothing."""
UNALIKE = {
    "crane_lift": ("electrical", "confined", "hot_work"),
    "steel": ("electrical", "confined", "excavation"),
    "scaffold": ("electrical", "confined", "excavation"),
    "concrete": ("electrical", "confined", "hot_work"),
    "rebar": ("electrical", "confined", "hot_work"),
    "paving": ("electrical", "confined", "crane_lift"),
    "excavation": ("electrical", "hot_work", "crane_lift"),
    "electrical": ("excavation", "concrete", "crane_lift"),
    "confined": ("concrete", "scaffold", "crane_lift"),
    "hot_work": ("excavation", "confined", "crane_lift"),
    "plant": ("electrical", "confined", "hot_work"),
    "interior": ("excavation", "confined", "crane_lift"),
}


def _lines(wording: Split, *banks: str) -> list[str]:
    told = phrases()["observations"]
    return [line for bank in banks for line in told[bank]["unseen" if wording is OTHER else "seen"]]


def drift(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """A line about the work of quite another trade."""
    other = phrases()["families"][rng.choice(UNALIKE[scenario.family])]
    job = rng.choice(other["jobs"]["unseen" if wording is OTHER else "seen"])
    line = rng.choice(("{job} is taking longer", "busy with {job}", "{job} goes well", "trouble with {job}"))
    return retold(SITE, steps, rng.randrange(len(steps)), said=line.format(job=job))


CAUSES = tuple(f"adverse_{cause}" for cause in ("wind", "tired", "zone", "gear", "general"))


def contradiction(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """Harm told under a harmless label, peace under a harmful one, or a hazard of another sort than the diary's."""
    turn = rng.randrange(len(steps))
    if SITE.outcomes[steps[turn].outcome].severity:
        lines = [*_lines(wording, "neutral", "no_incident"), *(FINE if wording is OTHER else ())]
    elif steps[turn].changes.hazard == "wind rising" and rng.random() < 0.5:
        lines = _lines(wording, "elevated_zone", "elevated_gear")
    else:
        lines = [*_lines(wording, *CAUSES), *(HURT if wording is OTHER else ())]
    return retold(SITE, steps, turn, said=rng.choice(lines))


def ignored(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """The work is stopped, and goes on."""
    held = replace(steps[0], action=Action(kind=rng.choice(BENIGN), text="Stop here and hold."))
    lines = [*GOING_ON[wording], *_lines(wording, "no_incident")]
    return retold(SITE, (held, *steps[1:]), rng.randrange(len(steps)), said=rng.choice(lines))


def resumed(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """Done, or somebody hurt, and the next half-hour knows nothing of it."""
    turns = [turn for turn in mild(SITE, steps) if turn + 1 < len(steps)]
    lines = [*_lines(wording, "no_incident", *CAUSES), *(HURT if wording is OTHER else ())]
    return retold(SITE, steps, rng.choice(turns), said=rng.choice(lines)) if turns else None


def uncollapsed(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    if len(steps) < 2:
        return None
    first, second = sorted(rng.sample(range(len(steps)), 2))
    fell = retold(SITE, steps, first, symptoms="severe")
    for turn in range(first + 1, second):
        fell = retold(SITE, fell, turn, symptoms=None)
    return retold(SITE, fell, second, symptoms=rng.choice(("none", "mild")))


def gusts(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turn, sign = rng.randrange(len(steps)), rng.choice((-1, 1))
    gust = steps[turn].state.environmental_conditions.gust_mph
    if gust is None or (sign < 0 and gust < 15):
        return None
    leap = rng.uniform(12, 40) if sign > 0 else -rng.uniform(12, gust)
    return retold(SITE, steps, turn, gust_mph=min(round(gust + leap), 120)) if gust < 80 else None


def flicker(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turn, hazard = rng.randrange(len(steps)), rng.choice(("wind rising", "crew tiring", "equipment trouble"))
    if hazard in steps[turn].state.active_hazards or SITE.outcomes[steps[turn].outcome].terminal:
        return None
    return retold(SITE, steps, turn, hazard=hazard, outcome="risk_mitigated")


def clock(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """An earlier hour in the middle of the shift."""
    turn = rng.randrange(len(steps))
    crew = steps[turn].next_state.crew_status
    if not crew.hours_on_site or crew.hours_on_site < 2:
        return None
    fresh = crew.model_copy(update={"hours_on_site": rng.uniform(0, crew.hours_on_site - 1.5)})
    after = steps[turn].next_state.model_copy(update={"crew_status": fresh})
    return (*steps[:turn], replace(steps[turn], next_state=after), *steps[turn + 1 :])


PLANTS: Mapping[str, Plant] = {
    Kind.problem_drift: drift, Kind.contradiction: contradiction, Kind.ignored_agent: ignored,
    Kind.status_regression: resumed, "uncollapsed": uncollapsed, "gust_jump": gusts, "hazard_flicker": flicker,
    "clock_backwards": clock,
}  # fmt: skip
