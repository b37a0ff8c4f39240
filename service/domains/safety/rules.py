"""Rules that simulation cannot override: few, certain, each with whose rule it is."""

from collections.abc import Callable

from service.domains.safety import policy
from service.domains.safety.reading import (
    ENTERING,
    GOING_ON,
    at_work,
    feet,
    gust,
    kind_of_work,
    lacks,
    lifting,
    symptomatic,
    wind_limit,
    words,
)
from service.domains.safety.state import SafetyState
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.verdict import RuleHit

Check = Callable[[SafetyState, Action], bool]
BOLD = words(
    r"(?:skip|cancel|drop|forget)(?:ping)? (?:\w+ ){0,2}(?:briefing|toolbox talk|lockout|break|gas test|inspection)|"
    r"go ahead (?:with|and)|proceed with|carry on with|keep (?:working|pouring|lifting|digging)|remove the guard|"
    r"bypass(?:ing)? the|lift it anyway|send (?:him|them|someone|the crew) in"
)
HELD = words(
    r"do not|don'?t|never|not|before we|instead of|whether|rather than|should we|can we|stop|hold|postpone|"
    r"until|refus\w+|asked to|wants? to"
)
ATMOSPHERE = (
    r"gas[- ]test\w*|atmospher\w+ (?:test\w*|monitor\w*|reading)|air[- ]test\w*|air (?:monitor\w*|sampl\w*)|"
    r"sniff(?:er|ing)?|gas (?:check|reading|monitor)|"
    r"test(?:ing|ed)?(?: of)? (?:the )?(?:air|atmosphere)|monitor test|o2 (?:test|reading|check)"
)
ATTENDANT = r"attendants?|hole[- ]?watch|standby (?:man|person)|top ?man|someone (?:outside|at the (?:hatch|opening))"
FALL = (
    r"fall (?:protection|arrest|restraint)\w*|harness(?:es)?|lanyards?|guard ?rails?|t(?:ie|ied|"
    r"ying)[- ]off|lifelines?|safety nets?|clip(?:ped|ping)? (?:in|on)"
)
SHORING = (
    r"shor(?:ing|ed|es)|trench box(?:es)?|shield(?:s|ing)?|slop(?:ing|ed)|bench(?:ing|ed)|trench protection|"
    r"protective system|sheet(?:ing|s| piles?)"
)
LOCKOUT = (
    r"lock(?:ed|ing)?[- ]?out(?:[ /-]?tag(?:ged|ging)?[- ]?out)?|loto|isolat(?:ion|ed|ing)|lock and tag|"
    r"de-?energi[sz]\w+|tag(?:ged)?[- ]?out|shut(?:ting)? (?:it )?off|proving dead"
)
UNTESTED = words(r"untested|nobody (?:has )?tested|unattended|by (?:him|her)self")
UNSHORED = words(r"unprotected|unshored|unshielded|unsupported")


def bold(action: Action) -> bool:
    """Whether a harmless kind hides an order to do the work."""
    hit = BOLD.search(action.text)
    return hit is not None and not HELD.search(action.text[max(0, hit.start() - 40) : hit.start()])


def in_work(action: Action) -> bool:
    return action.kind not in policy.SAFE_KINDS or bold(action)


def told(state: SafetyState, action: Action) -> str:
    """What the action, the site's reports and the paperwork say, clause after clause."""
    arguments = [f"{k.replace('_', ' ')} {v}" for k, v in action.arguments.items() if isinstance(v, str)]
    paper = state.compliance_status
    return " . ".join(
        (
            action.text,
            *arguments,
            *state.recent_observations,
            *state.active_hazards,
            paper.status,
            *(f"missing {item}" for item in paper.missing),
        )
    )


def missing(state: SafetyState, action: Action, thing: str, paper: str) -> bool:
    """A protection is missing if the paperwork says so, an argument does, or words do and no paper contradicts."""
    on_paper = getattr(state.compliance_status, paper)
    if on_paper is False or action.arguments.get(paper) is False or lacks(action.text, thing):
        return True
    return on_paper is None and lacks(told(state, action), thing)


def unprotected(state: SafetyState, action: Action, work: tuple[str, str], thing: str, paper: str) -> bool:
    """Missing for this very action, or on paper for the task that it belongs to."""
    known = getattr(state.compliance_status, paper) is False and kind_of_work(state, action) == work[0]
    return known or (at_work(state, action, *work) and missing(state, action, thing, paper))


def _feet(state: SafetyState, action: Action, *keys: str) -> float | None:
    given = [
        float(v) for k in keys if isinstance(v := action.arguments.get(k), int | float) and not isinstance(v, bool)
    ]
    return max(given) if given else feet(f"{action.text}. {state.task_description}")


def over_wind(state: SafetyState, action: Action) -> bool:
    measured = gust(state, action)
    return lifting(state, action) and measured is not None and measured > wind_limit(state, action)


def blind_entry(state: SafetyState, action: Action) -> bool:
    entering = not action.text or ENTERING.search(f"{action.kind} {action.text}") or GOING_ON.search(action.text)
    work = ("confined", "enter")
    return bool(entering) and (
        unprotected(state, action, work, ATMOSPHERE, "atmospheric_test")
        or unprotected(state, action, work, ATTENDANT, "attendant")
        or (at_work(state, action, *work) and UNTESTED.search(action.text) is not None)
    )


def unprotected_fall(state: SafetyState, action: Action) -> bool:
    height = _feet(state, action, "height_ft", "height_feet")
    high = height is None or height >= policy.FALL_FEET
    return high and unprotected(state, action, ("height", "work_at_height"), FALL, "fall_protection")


def unprotected_trench(state: SafetyState, action: Action) -> bool:
    depth, work = _feet(state, action, "depth_ft", "trench_depth_ft"), ("excavation", "excavate")
    bare = at_work(state, action, *work) and UNSHORED.search(action.text) is not None
    return (
        depth is not None
        and depth >= policy.TRENCH_FEET
        and (bare or unprotected(state, action, work, SHORING, "trench_protection"))
    )


def live_work(state: SafetyState, action: Action) -> bool:
    return unprotected(state, action, ("electrical", "energise"), LOCKOUT, "lockout")


def sick_in_heat(state: SafetyState, action: Action) -> bool:
    felt = state.environmental_conditions.felt_c
    return felt is not None and felt >= policy.HEAT_DANGER_C and symptomatic(state, action)


RULES: tuple[tuple[str, Check, str, str], ...] = (
    ("lift_above_wind_limit", over_wind, "the wind is above the crane's limit", policy.CRANE_SOURCE),
    (
        "confined_space_unready",
        blind_entry,
        "entry without an atmospheric test or an attendant",
        policy.CONFINED_SOURCE,
    ),
    ("no_fall_protection", unprotected_fall, "work at 6 ft or more without fall protection", policy.FALL_SOURCE),
    (
        "unprotected_trench",
        unprotected_trench,
        "a trench of 5 ft or more without a protective system",
        policy.TRENCH_SOURCE,
    ),
    ("energised_without_lockout", live_work, "work on energised parts without lockout", policy.LOCKOUT_SOURCE),
    ("symptoms_in_danger_heat", sick_in_heat, "an unwell worker at a heat index of 103 F or more", policy.HEAT_SOURCE),
)


def hard_rules(proposal: Proposal) -> tuple[RuleHit, ...]:
    """The rules that the proposal breaks; stopping, looking or resting breaks none."""
    state, action = proposal.state, proposal.action
    if not in_work(action):
        return ()
    return tuple(
        RuleHit(name, f"{text[0].upper()}{text[1:]}.", source)
        for name, broken, text, source in RULES
        if broken(state, action)
    )
