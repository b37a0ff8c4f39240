"""The made odds of a building site: hidden causes, the signs they give, and what each half-hour may bring.

The numbers are ours, shaped after what is published on fatigue, heat and wind; they are no one's record.
"""

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate, product
from math import exp
from random import Random

from service.domains.safety.outcomes import SCALE

Z = tuple[int, int, int, int]
HIDDEN: tuple[Z, ...] = tuple(product(range(3), range(3), range(2), range(2)))
"""What nobody says: how the weather turns, how spent the crew is, whether gear fails, whether people are exposed."""

BENIGN = ("postpone", "stop_work", "inspect", "brief", "hydrate_and_rest", "report")
PUSHED = {
    "careful": -0.9,
    "routine": 0.0,
    "minor": -1.4,
    "rush": 1.2,
    "skip_briefing": 1.5,
    "shorten_break": 1.3,
    "bypass": 2.8,
    "carry_on": 1.5,
} | dict.fromkeys(BENIGN, -1.2)
WEIGHT = {"careful": 0.65, "minor": 0.3} | dict.fromkeys(BENIGN, 0.12)
FINISH = {"minor": 0.4, "careful": 0.09} | dict.fromkeys(BENIGN, 0.0)
MITIGATE = {"careful": 0.25} | dict.fromkeys(BENIGN, 0.4)
LATER, TOP = 0.9, 0.65
SPREAD, SHIFT = 1.6, -1.0
DRIFT = ((-1, 0, 0, 0, 0, 1), (0, 1, 1, 2, 2, 3), (1, 3, 4, 5, 6, 7))
TIRING = (0.01, 0.06, 0.2)


@dataclass(frozen=True, slots=True)
class Trade:
    """A family of work: base log-odds, exposure to wind and heat, how grave its accidents are, if skill is vital."""

    base: float
    wind: float
    heat: float
    critical: float
    kind: str
    skilled: bool = False
    plant: bool = False
    held_out: bool = False


TRADES = {
    "crane_lift": Trade(-3.9, 1.0, 0.3, 0.08, "lift", skilled=True),
    "steel": Trade(-3.8, 0.8, 0.5, 0.08, "work_at_height"),
    "scaffold": Trade(-3.9, 0.8, 0.5, 0.06, "work_at_height"),
    "concrete": Trade(-4.1, 0.2, 1.0, 0.03, "pour"),
    "rebar": Trade(-4.1, 0.3, 1.0, 0.03, "proceed"),
    "paving": Trade(-4.0, 0.1, 1.0, 0.04, "operate_plant", plant=True),
    "excavation": Trade(-3.9, 0.1, 0.6, 0.08, "excavate"),
    "electrical": Trade(-3.9, 0.1, 0.2, 0.09, "energise", skilled=True),
    "confined": Trade(-3.7, 0.0, 0.6, 0.09, "enter", skilled=True),
    "hot_work": Trade(-3.9, 0.4, 0.5, 0.05, "hot_work"),
    "plant": Trade(-3.9, 0.2, 0.4, 0.06, "operate_plant", plant=True),
    "interior": Trade(-4.6, 0.0, 0.4, 0.02, "proceed"),
    "demolition": Trade(-3.7, 0.5, 0.6, 0.07, "operate_plant", plant=True, held_out=True),
    "roofing": Trade(-3.8, 0.9, 0.9, 0.07, "work_at_height", held_out=True),
}

WEATHER, STRAIN, GEAR, ZONE = range(4)
SIGNS: dict[str, tuple[int, tuple[float, ...]]] = {
    "dizzy": (STRAIN, (0.015, 0.1, 0.35)),
    "tired": (STRAIN, (0.04, 0.25, 0.4)),
    "unsteady": (STRAIN, (0.03, 0.15, 0.3)),
    "rested": (STRAIN, (0.3, 0.1, 0.02)),
    "worn_gear": (GEAR, (0.025, 0.4)),
    "odd_noise": (GEAR, (0.03, 0.35)),
    "gear_checked": (GEAR, (0.3, 0.08)),
    "dark_sky": (WEATHER, (0.03, 0.2, 0.4)),
    "flags_snap": (WEATHER, (0.03, 0.25, 0.35)),
    "calm_forecast": (WEATHER, (0.25, 0.08, 0.02)),
    "people_close": (ZONE, (0.05, 0.4)),
    "barrier_down": (ZONE, (0.05, 0.35)),
    "close_call": (ZONE, (0.03, 0.2)),
    "zone_clear": (ZONE, (0.3, 0.06)),
}
GOOD = frozenset(("rested", "gear_checked", "calm_forecast", "zone_clear"))


@dataclass(frozen=True, slots=True)
class Said:
    """All that state and action tell: numbers (mph, degrees Celsius, hours), signs named, and what is intended.

    `dark` is 0 clear, 1 reduced, 2 poor; `barehanded` marks a named protection left out (lockout, shoring ...).
    """

    family: str
    intent: str
    gust: int | None = None
    limit: int = 20
    felt: float | None = None
    hours: int | None = None
    dark: int = 0
    trained: bool | None = None
    briefed: bool | None = None
    barehanded: bool = False
    signs: tuple[str, ...] = ()

    @property
    def heat(self) -> float:
        return TRADES[self.family].heat * clamp(((self.felt or 20.0) - 27.0) * 0.13, 0.0, 2.2)

    @property
    def fatigue(self) -> float:
        return clamp(((self.hours or 4) - 7) * 0.28, 0.0, 1.4)


@dataclass(slots=True)
class Progress:
    """What moves from step to step: half-hours gone, gusts in mph (-1 where never measured), symptoms 0 to 2."""

    turn: int
    gust: int
    symptoms: int


def clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def start(said: Said) -> Progress:
    return Progress(0, -1 if said.gust is None else said.gust, int("dizzy" in said.signs))


def priors(said: Said) -> tuple[tuple[float, ...], ...]:
    """P(each hidden cause) before any sign, from the numbers."""
    share = -1.0 if said.gust is None else said.gust / said.limit
    weather = (
        (0.65, 0.27, 0.08)
        if share < 0
        else (0.8, 0.16, 0.04)
        if share < 0.6
        else (0.5, 0.35, 0.15)
        if share < 1
        else (0.35, 0.4, 0.25)
    )
    toll = sum((said.hours or 0) > limit for limit in (8, 10)) + sum((said.felt or 0) > limit for limit in (30, 37))
    strain = ((0.82, 0.15, 0.03), (0.62, 0.28, 0.1), (0.4, 0.4, 0.2), (0.25, 0.4, 0.35), (0.2, 0.35, 0.45))[toll]
    exposed = 0.2 + 0.12 * TRADES[said.family].plant + 0.05 * said.dark
    return weather, strain, (0.82, 0.18), (1 - exposed, exposed)


def posterior(said: Said) -> list[float]:
    """P(hidden causes | all that is said): signs named and signs not named alike, by enumeration over HIDDEN."""
    columns = [list(prior) for prior in priors(said)]
    for name, (cause, likelihood) in SIGNS.items():
        for level, p in enumerate(likelihood):
            columns[cause][level] *= p if name in said.signs else 1 - p
    joint = [columns[0][w] * columns[1][s] * columns[2][g] * columns[3][e] for w, s, g, e in HIDDEN]
    total = sum(joint)
    return [p / total for p in joint]


class Odds:
    """What each half-hour may bring, given what is said."""

    def __init__(self, said: Said) -> None:
        self.said, self.trade = said, TRADES[said.family]
        self.weight = WEIGHT.get(said.intent, 1.0) * SPREAD
        self.fixed = {
            z: self.trade.base + SHIFT + PUSHED[said.intent] + self.weight * (self._known() + self._hidden(z))
            for z in HIDDEN
        }
        self.gusty = [self.weight * self.trade.wind * _wind(gust / said.limit) for gust in range(122)]
        self.gusty.append(0.0)  # progress.gust == -1: never measured
        unwell = 0.8 + 0.8 * (said.heat > 0.6)
        self.unwell = (0.0, self.weight * unwell, self.weight * 2 * unwell)
        self.tiring = [p * (0.3 if said.intent in BENIGN else 1.0) * (1.8 if said.heat > 0.7 else 1.0) for p in TIRING]
        critical = self.trade.critical * (1.3 if said.barehanded else 1.0)
        self.harm = (0.46, 0.28, 0.26 - critical, critical)

    def _known(self) -> float:
        said, pushed = self.said, self.said.intent in ("skip_briefing", "shorten_break")
        dark = (0.0, 0.8, 1.7)[said.dark] if self.trade.plant else (0.0, 0.25, 0.6)[said.dark]
        raw = 0.7 + (1.3 if self.trade.skilled else 0.0)
        bad = sum(sign not in GOOD for sign in said.signs)
        return (
            said.heat
            + said.fatigue
            + dark
            + (raw if said.trained is False else 0.0)
            + {None: 0.0, True: -0.3, False: 0.5}[said.briefed]
            + (1.0 if said.barehanded else 0.0)
            + (0.6 * said.heat * said.fatigue + 0.5 * said.fatigue if pushed else 0.0)
            + (0.6 * min(bad, 3) if said.intent == "carry_on" else 0.0)
        )

    def _hidden(self, z: Z) -> float:
        said, (weather, strain, gear, zone) = self.said, z
        over = said.gust is not None and said.gust > said.limit
        return (
            (0.0, 0.5, 1.2)[weather] * self.trade.wind
            + (0.0, 0.7, 1.5)[strain]
            + 1.3 * gear
            + 1.2 * zone
            + 0.8 * (zone and said.family == "crane_lift" and over)
            + 0.7 * (zone and self.trade.plant and said.dark > 0)
            + 0.5 * strain * (said.intent in ("skip_briefing", "shorten_break"))
            + 0.7 * gear * (said.intent == "bypass")
        )

    def hazard(self, z: Z, progress: Progress) -> float:
        """P(anything adverse in this half-hour)."""
        logit = (
            self.fixed[z]
            + self.gusty[progress.gust]
            + self.unwell[progress.symptoms]
            - (LATER if progress.turn else 0.0)
        )
        return TOP / (1 + exp(-logit))

    def finish(self, turn: int) -> float:
        """P(the task ends | nothing adverse)."""
        first = FINISH.get(self.said.intent, 0.05)
        return min(first + 0.03 * turn, 0.9) if first else 0.0

    def of(self, z: Z, progress: Progress) -> tuple[float, ...]:
        """P(outcome), in the order of the scale."""
        hazard, finish = self.hazard(z, progress), self.finish(progress.turn)
        mitigated = (1 - finish) * MITIGATE.get(self.said.intent, 0.04)
        elevated = (1 - finish - mitigated) * min(0.6, 0.05 + 2.0 * hazard)
        mild = (mitigated, finish, 1 - finish - mitigated - elevated, elevated)
        return tuple((1 - hazard) * p for p in mild) + tuple(hazard * p for p in self.harm)

    def opening(self) -> tuple[float, ...]:
        """P(outcome) of the first half-hour given all that is said."""
        rows = zip(HIDDEN, posterior(self.said), strict=True)
        weighted = [[share * p for p in self.of(z, start(self.said))] for z, share in rows]
        return tuple(map(sum, zip(*weighted, strict=True)))

    def drift(self, rng: Random, z: Z, progress: Progress) -> None:
        """Half an hour passes."""
        progress.turn += 1
        if progress.gust >= 0:
            progress.gust = int(clamp(progress.gust + DRIFT[z[WEATHER]][int(rng.random() * 6)], 0, 120))
        if progress.symptoms < 2 and rng.random() < self.tiring[z[STRAIN]]:
            progress.symptoms += 1

    def risk(self, rng: Random, horizon: int, samples: int) -> float:
        """P(adverse within `horizon`): each sample follows a path on which nothing adverse has happened yet."""
        bounds, total = list(accumulate(posterior(self.said))), 0.0
        for _ in range(samples):
            z, progress, safe = HIDDEN[min(bisect(bounds, rng.random()), len(HIDDEN) - 1)], start(self.said), 1.0
            for turn in range(horizon):
                safe *= 1 - self.hazard(z, progress)
                if rng.random() < self.finish(turn):
                    break
                self.drift(rng, z, progress)
            total += 1 - safe
        return total / samples


def _wind(share: float) -> float:
    """Log-odds added by gusts as a share of the limit."""
    return clamp((share - 0.6) * 1.5, 0.0, 0.6) + clamp((share - 1.0) * 7.0, 0.0, 2.6)


ADVERSE = frozenset(outcome.name for outcome in SCALE if outcome.severity)
