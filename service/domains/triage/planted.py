"""Faults for illnesses: written from what a nurse would find odd, not from how they are looked for."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from service.domains.triage.domain import Triage
from service.domains.triage.wording import phrases, table
from service.vocabulary.planted import Plant, Steps, mild, retold
from service.vocabulary.proposal import Action
from service.vocabulary.reference import Scenario, Split
from service.vocabulary.violation import Kind

UNALIKE = {
    "urine": ("burning_urine", "blood_urine"),
    "gut": ("loose_stool", "hard_stool"),
    "eye": ("vision_loss", "sticky"),
    "limb": ("no_weight", "calf"),
    "skin": ("itch", "small_patch", "spreading_red"),
    "cold": ("runny_nose", "wheeze"),
    "pregnancy": ("bleeding",),
}
"""Complaints, and signs that belong to them and to few others."""
GRAVE = (
    "one_sided",
    "blood",
    "confused",
    "stiff_neck",
    "dark_rash",
    "face_swelling",
    "fainted",
    "blue",
    "breathless",
    "pressure",
)
DOMAIN = Triage()
KNOWN, OTHER = Split.seen, Split.unseen_wording
UNHEARD = {
    KNOWN: (
        "Nobody rang back.",
        "The caller was never told what to do.",
        "No one got back to them.",
        "The caller got no answer at all.",
    ),
    OTHER: (
        "The advice did not reach her.",
        "He has not heard from us.",
        "She waited for the call in vain.",
        "There was silence on the line.",
        "Not informed of anything.",
    ),
}
LEFT_HOME = {
    KNOWN: ("Still sitting at home.", "The ambulance never came.", "He refused to go.", "They are waiting at home."),
    OTHER: (
        "Has not left the sofa.",
        "The crew turned back without him.",
        "She is at home with a hot bottle.",
        "They cancelled the ambulance.",
        "He went to work.",
    ),
}
"""The known ones were at hand when the detectors were written; the others were written afterwards and changed nothing."""


def _bank(wording: Split) -> str:
    return "unseen" if wording is OTHER else "seen"


def _line(rng: Random, wording: Split, *outcomes: str) -> str:
    """What is noted of one of these outcomes."""
    line: str = rng.choice(phrases()["observations"][rng.choice(outcomes)][_bank(wording)])
    return line


def drift(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """A sign of an illness of quite another part of the body."""
    known = table("causes.yaml")["families"][scenario.family]["signs"]
    strange = [
        sign for family, signs in UNALIKE.items() for sign in signs if sign not in known and family != scenario.family
    ]
    turns = mild(DOMAIN, steps)
    noun: str = rng.choice(phrases()["signs"][rng.choice(strange)]["noun"][_bank(wording)])
    return retold(DOMAIN, steps, rng.choice(turns), course="worse", new_sign=noun) if turns else None


def contradiction(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """A line of quite another outcome or course, or a pain that goes the other way."""
    turn = rng.randrange(len(steps))
    step = steps[turn]
    if step.outcome != "settled":
        others = [name for name in ("admission", "ICU", "death", "clinic_visit", "better") if name != step.outcome]
        others.remove("better") if step.outcome == "clinic_visit" else None
        return retold(DOMAIN, steps, turn, said=_line(rng, wording, *others))
    pain = step.state.symptom_details.severity
    if step.changes.course == "better" and pain is not None and pain < 8 and rng.random() < 0.4:
        return retold(DOMAIN, steps, turn, pain=round(pain) + 2)
    opposite = {"better": ("worse",), "worse": ("better",)}.get(step.changes.course, ())
    return retold(
        DOMAIN, steps, turn, said=_line(rng, wording, "ED_required", "admission", "ICU", "death", *opposite, *opposite)
    )


def ignored(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turn = rng.randrange(len(steps))
    if rng.random() < 0.5:
        return retold(DOMAIN, steps, turn, said=rng.choice(UNHEARD[wording]))
    sent = replace(steps[0], action=Action(kind=rng.choice(("call_911", "ed_now")), text="Go now."))
    return retold(DOMAIN, (sent, *steps[1:]), turn, said=rng.choice(LEFT_HOME[wording]))


def revived(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    """In hospital or dead, and ten hours later at home as if nothing had been."""
    turns = [turn for turn in mild(DOMAIN, steps) if turn + 1 < len(steps)]
    if not turns:
        return None
    return retold(
        DOMAIN,
        steps,
        rng.choice(turns),
        said=_line(rng, wording, "clinic_visit", "ED_required", "admission", "ICU", "death"),
    )


def hope(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turns = mild(DOMAIN, steps)
    noun: str = rng.choice(phrases()["signs"][rng.choice(GRAVE)]["noun"][_bank(wording)])
    return (
        retold(DOMAIN, steps, rng.choice(turns), course="better", pain=None, heart_rate=None, new_sign=noun)
        if turns
        else None
    )


def pain(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turns = [turn for turn in mild(DOMAIN, steps) if steps[turn].state.symptom_details.severity is not None]
    if not turns:
        return None
    turn = rng.choice(turns)
    now = steps[turn].state.symptom_details.severity
    far = [level for level in range(11) if abs(level - now) >= 5]
    return retold(DOMAIN, steps, turn, pain=rng.choice(far))


def pulse(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turns = [turn for turn in mild(DOMAIN, steps) if steps[turn].state.vitals.heart_rate is not None]
    if not turns:
        return None
    turn = rng.choice(turns)
    now = round(steps[turn].state.vitals.heart_rate)
    return retold(DOMAIN, steps, turn, heart_rate=now + rng.choice((-1, 1)) * rng.randrange(25, 60))


def clock(rng: Random, scenario: Scenario, steps: Steps, wording: Split) -> Steps | None:
    turn = rng.randrange(len(steps))
    if not turn:
        return None
    early = steps[turn].state.model_copy(
        update={"elapsed_hours": steps[turn].state.elapsed_hours * rng.uniform(0, 0.9)}
    )
    return (*steps[:turn], replace(steps[turn], state=early), *steps[turn + 1 :])


PLANTS: Mapping[str, Plant] = {
    Kind.problem_drift: drift, Kind.contradiction: contradiction, Kind.ignored_agent: ignored,
    Kind.status_regression: revived, "false_hope": hope, "pain_jump": pain, "pulse_jump": pulse, "clock_backwards": clock,
}  # fmt: skip
