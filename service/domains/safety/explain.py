"""Evidence that a site supervisor can read, and what to do instead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.domains.safety import policy
from service.domains.safety.grounding import visibility_band
from service.domains.safety.reading import crane_work, gust, kind_of_work, symptomatic, wind_limit
from service.domains.safety.state import SafetyState
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.rollout import Rollout
from service.vocabulary.verdict import Assessment, RiskFactor

NEAR = 0.85


@dataclass(frozen=True, slots=True)
class Gauge:
    """A measured quantity and whose limit it is held to; `inclusive` means that the limit itself is too much."""

    name: str
    unit: str
    source: str
    limit: float
    read: Callable[[SafetyState], float | None]
    inclusive: bool = False

    def over(self, state: SafetyState) -> bool:
        value = self.read(state)
        return value is not None and (value > self.limit or (self.inclusive and value == self.limit))

    def near(self, state: SafetyState) -> bool:
        value = self.read(state)
        return value is not None and value >= NEAR * self.limit


def gauges(state: SafetyState, action: Action) -> tuple[Gauge, ...]:
    lifts = crane_work(state, action)
    return (
        Gauge(
            "wind",
            "mph",
            policy.CRANE_SOURCE if lifts else policy.WORK_WIND_SOURCE,
            wind_limit(state, action) if lifts else policy.WORK_WIND_MPH,
            lambda s: gust(s, action),
        ),
        Gauge(
            "heat index",
            "C",
            policy.HEAT_SOURCE,
            policy.HEAT_CAUTION_C,
            lambda s: s.environmental_conditions.felt_c,
            True,
        ),
        Gauge(
            "crew on site",
            "hours",
            policy.SHIFT_SOURCE,
            policy.SHIFT_HOURS,
            lambda s: s.crew_status.hours_on_site,
            True,
        ),
        Gauge(
            "time since break",
            "minutes",
            policy.BREAK_SOURCE,
            policy.BREAK_MINUTES,
            lambda s: s.crew_status.minutes_since_break,
        ),
    )


def _signs(state: SafetyState, action: Action) -> tuple[tuple[str, str, str, str, bool], ...]:
    """Name, value, limit, source of it, and whether it is passed, for what has no number."""
    crew = state.crew_status
    return (
        (
            "crew symptoms",
            crew.symptoms if crew.symptoms != "none" else "reported",
            "none",
            policy.HEAT_SOURCE,
            symptomatic(state, action),
        ),
        ("visibility", "poor", "good", policy.VISIBILITY_SOURCE, visibility_band(state) == "poor"),
        (
            "briefing",
            "not held",
            "held before work",
            "OSHA 29 CFR 1926.21",
            crew.briefed is False or action.kind == "skip_briefing",
        ),
        ("task training", "none", "trained", "OSHA 29 CFR 1926.21", crew.task_trained is False),
        ("heat training", "none", "trained", policy.HEAT_SOURCE, crew.heat_trained is False and _hot(state)),
        (
            "lightning",
            "seen",
            "none within 10 miles",
            "OSHA/NOAA lightning safety",
            bool(state.environmental_conditions.lightning),
        ),
    )


def _hot(state: SafetyState) -> bool:
    return (state.environmental_conditions.felt_c or 0.0) >= policy.HEAT_CAUTION_C


def _seen_in(adverse: Sequence[Rollout], test: Callable[[SafetyState], bool]) -> int:
    return sum(
        any(test(s) for step in rollout.steps for s in (step.transition.state, step.transition.next_state))
        for rollout in adverse
    )


def risk_factors(proposal: Proposal, adverse: Sequence[Rollout]) -> tuple[RiskFactor, ...]:
    """Values over or within 15 % of a limit, exceeded ones first."""
    state, action = proposal.state, proposal.action
    found = [
        RiskFactor(g.name, round(value, 1), g.unit, g.limit, g.source, g.over(state), _seen_in(adverse, g.over))
        for g in gauges(state, action)
        if g.near(state) and (value := g.read(state)) is not None
    ]
    found += [
        RiskFactor(name, value, "", limit, source, True, len(adverse))
        for name, value, limit, source, passed in _signs(state, action)
        if passed
    ]
    return tuple(sorted(found, key=lambda factor: not factor.exceeded))


PROTECT = {
    "confined": Action(kind="inspect", text="Test the air and post an attendant before anyone enters."),
    "height": Action(kind="inspect", text="Check anchors, guard rails and harnesses before anyone goes up."),
    "excavation": Action(kind="inspect", text="Have the competent person check the trench and its shoring first."),
    "electrical": Action(kind="inspect", text="Isolate, lock out and prove dead before any work."),
    "hot_work": Action(kind="inspect", text="Check the hot work permit, clear what burns and post a fire watch."),
    "plant": Action(kind="brief", text="Brief drivers and spotters and keep people out of the swing area."),
}
STOP = Action(kind="stop_work", text="Stop the task and make the area safe until the supervisor has looked.")
BRIEF = Action(kind="brief", text="Hold the full briefing with the whole crew before any work.")


def alternatives(proposal: Proposal) -> tuple[Action, ...]:
    """At most three safer actions: what lowers the largest exceedance first."""
    state, action = proposal.state, proposal.action
    offers: list[Action] = []
    if gauges(state, action)[0].over(state):
        limit = wind_limit(state, action) if crane_work(state, action) else policy.WORK_WIND_MPH
        offers.append(Action(kind="postpone", text=f"Postpone the work until wind is below {limit:.0f} mph."))
    if symptomatic(state, action) or _hot(state):
        offers.append(
            Action(kind="hydrate_and_rest", text="Rest the crew in shade with water and check on each worker.")
        )
    if action.kind == "skip_briefing" or state.crew_status.briefed is False:
        offers.append(BRIEF)
    offers += [PROTECT[work]] if (work := kind_of_work(state, action)) in PROTECT else []
    if (state.crew_status.hours_on_site or 0) >= policy.SHIFT_HOURS:
        offers.append(Action(kind="postpone", text="Postpone the work to the next shift with a rested crew."))
    return (*offers, STOP, BRIEF)[: max(2, min(3, len(offers)))]


def questions(state: SafetyState, assessment: Assessment | None) -> tuple[str, ...]:
    """What is missing in this state, three to five of it."""
    weather, crew, paper = state.environmental_conditions, state.crew_status, state.compliance_status
    asked = (
        (weather.gust is None, "What does the anemometer read now, and which wind limit applies?"),
        (weather.felt_c is None, "What is the temperature and the humidity where the crew works?"),
        (crew.symptoms != "none", "Who is unwell, since when, and has anyone looked at them?"),
        (crew.hours_on_site is None, "How many hours has the crew been on site, and when was the last break?"),
        (crew.briefed is None, "Has the whole crew been briefed on this task today?"),
        (
            crew.task_trained is None and not crew.certifications,
            "Is everyone on the task trained and certified for it?",
        ),
        (crew.supervisor_present is None, "Is a competent supervisor present?"),
        (not paper.permits, "Which permits and inspections are in place?"),
        (True, "Who is inside the danger zone, and how are they kept out of it?"),
        (True, "What has changed on site since the plan was made?"),
        (True, "What would make the crew stop, and who says so?"),
    )
    return tuple(text for wanted, text in asked if wanted)[:5]
