"""How plain site words are read: kinds of work, quantities, and whether a protection is said to be missing."""

import re
from collections.abc import Iterator
from functools import lru_cache

from service.domains.safety.policy import CRANE_WIND_MPH
from service.domains.safety.state import Equipment, SafetyState
from service.vocabulary.proposal import Action


def words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


LIFTING = words(
    r"(?:tandem|crane|blind|panel|column|beam|girder|chiller|truss|bundle|unit) (?:lift|pick)s?|"
    r"cranes?|derrick|rigging|(?:lift|pick)s? of|hoist(?:ing|ed|s)?|slung|"
    r"(?:lift|pick|fly|swing|sling)(?:ing|s)? (?:up |and \w+ )?(?:(?:the|a|that|last|next|this|both|\w+) ){0,2}"
    r"(?:load|panels?|precast|beams?|girders?|steel|truss(?:es)?|unit|module|precast panels?|chiller|hvac|"
    r"bundle|column)s?"
)
GOING_ON = words(
    r"carry on|continue|proceed|go ahead|keep (?:going|it|at|on|the)|resume|push on|press on|get (?:it|"
    r"going|on with)|"
    r"(?:start|begin|finish|do) (?:the |this )?(?:work|job|task|it|operation)|as planned"
)
SECURING = words(
    r"(?:lower|secur|stow|park|weathervan|shut|tie|lay|take)\w* (?:down )?(?:the |that )?(?:\w+ )?(?:crane|"
    r"boom|jib|hook)s?"
)
ENTERING = words(
    r"ent(?:er|ry|ering)|(?:go|get|hop|climb|crawl|nip|jump|drop|send|straight|work|weld|"
    r"clean)\w* .{0,30}\b(?:in|into|inside|down)"
)
WORK = (
    ("lift", LIFTING),
    (
        "confined",
        words(r"confined space|manholes?|sewers?|(?:storage |holding )?tanks?|vaults?|silos?|culverts?|vessels?"),
    ),
    (
        "electrical",
        words(
            r"energi[sz]ed?|live (?:panel|work|parts?|busbar|wires?|board|circuit)|switchgear|breakers?|"
            r"busbar|panel board|"
            r"electrical panel|(?:480|400|230|11k) ?v(?:olts?)?|lockout|loto"
        ),
    ),
    ("excavation", words(r"trench(?:es|ing)?|excavat\w*|dig(?:ging)?")),
    (
        "height",
        words(
            r"roof\w*|scaffold\w*|leading edge|ladders?|steel erection|work(?:ing)? at height|parapet|mewp|boom lift"
        ),
    ),
    ("hot_work", words(r"weld\w*|torch\w*|hot work|grind(?:ing|er)|cutting torch|braz\w+")),
    (
        "plant",
        words(
            r"excavators?|dozers?|loaders?|dumpers?|haul\w*|rollers?|pav(?:er|ing)|forklifts?|telehandlers?|"
            r"revers\w+|reach truck"
        ),
    ),
    ("concrete", words(r"concrete|pour\w*|slab|rebar|formwork|screed\w*")),
)
CLAUSE = re.compile(r"[.;!?\n,]+|\bbut\b|\band then\b", re.IGNORECASE)
FORBIDDING = re.compile(
    r"\b(?:do not|don'?t|never|must not|mustn'?t|nobody|no[- ]one|cannot|can'?t|won'?t|will not|refuse to|"
    r"not until)\b"
    r".{0,60}\b(?:without|until|unless|before|till|while|with no|if)\b",
    re.IGNORECASE,
)
SETTLED = re.compile(
    r"\bno (?:missing|damaged|lapsed|faulty|broken|defective|expired|issues? with|problems? with|"
    r"need to wait)\b|\bnot only\b|\bremoved by (?:its|the|each|their) owners?\b|"
    r"\b(?:not|never|n't) (?:been )?(?:missing|skipped|skipping|removed|bypassed|waived|absent)\b",
    re.IGNORECASE,
)
LACK = (
    r"(?:without|with no|no|not|never|skip(?:ping|s|ped)?|forget|lacking|missing|minus|leave out|waiv(?:e|"
    r"ing)|bypass(?:ing|ed)?|instead of|"
    r"isn'?t|aren'?t|hasn'?t|haven'?t|wasn'?t|don'?t (?:need|bother|wait|use)|do not (?:need|bother|wait|use)|ain'?t)"
)
LACKED = (
    r"(?:(?:is|are|was|were|has|have|hasn'?t|isn'?t|wasn'?t|aren'?t|weren'?t|yet|still|been|to|be) ){0,3}"
    r"(?:not|missing|skipped|removed|off site|absent|undone|bypassed|waived|gone|later|hasn'?t|isn'?t|"
    r"wasn'?t|aren'?t)"
)
SPEED = re.compile(
    r"(?:gust\w*|winds?\w*|blow\w*|anemometer\w*)\b(?P<gap>[^.;\n]{0,40}?)(?P<n>\d+(?:\.\d+)?)\s?(?P<u>mph|"
    r"km/?h|kph|knots?|kts?|m/s)",
    re.IGNORECASE,
)
HYPOTHETICAL = words(
    r"below|under|until|limit|exceeds?|above|over|if|unless|forecast|before|less than|drops? to|"
    r"max(?:imum)?|may|might|could"
)
TO_MPH = {"mph": 1.0, "km": 0.621, "kp": 0.621, "kn": 1.151, "kt": 1.151, "m/": 2.237}
LENGTH = re.compile(r"(\d+(?:\.\d+)?)[\s-]?(ft|foot|feet|'|m|meters?|metres?)(?![a-z/])", re.IGNORECASE)
SICK = words(
    r"light[- ]?headed\w*|dizz\w+|faint(?:ed|ing|s|ish)?|nause\w+|vomit\w*|confus\w+|collaps\w+|"
    r"heat (?:stress|exhaustion|stroke|cramps)|"
    r"woozy|stagger\w*|passed out|giddy|headaches?|stopped sweating|seeing spots"
)
NAMED_HAZARD = re.compile(r"^\W*(?:heat|cold)[ -]\w+(?: \w+)?\W*$", re.IGNORECASE)
WELL = re.compile(
    r"\b(?:no(?:body|t|ne)?|no[- ]one|never|denies|without|free of|risks? of|prevent\w*|training|"
    r"watch(?:ing)? for|zero|recovered from|isn'?t|aren'?t)\b[^.;,]{0,30}$",
    re.IGNORECASE,
)


def clauses(text: str) -> Iterator[str]:
    """The clauses that assert or order something; a prohibition ("do not enter without ...") is a safeguard."""
    for clause in CLAUSE.split(SETTLED.sub(" ", text)):
        if not FORBIDDING.search(clause):
            yield clause


def lacks(text: str, thing: str) -> bool:
    """Whether the text says that a protection (a regular expression of its names) is left out."""
    lack = re.compile(rf"\b(?:{LACK}\b(?:\s+[\w'-]+){{0,4}}?\s+(?:{thing})|(?:{thing})s?\s+{LACKED})\b", re.IGNORECASE)
    return any(lack.search(clause) for clause in clauses(text))


REMEMBERED = 256


def kind_of_work(state: SafetyState, action: Action) -> str:
    """The kind of work at hand, by the action first, then by the task."""
    told = (f"{action.kind} {action.text}", f"{state.task_description} {state.work_started}", machines(state))
    return _kind_of_work(action.kind, told)


@lru_cache(REMEMBERED)
def _kind_of_work(kind: str, texts: tuple[str, ...]) -> str:
    """A step asks this many times over of the same words."""
    for text in texts:
        for name, pattern in WORK:
            if kind == name or pattern.search(text):
                return name
    return "general"


def at_work(state: SafetyState, action: Action, name: str, kind: str) -> bool:
    """Whether the action itself is such work, or goes on with a task that is."""
    if action.kind == kind or dict(WORK)[name].search(f"{action.kind} {action.text}"):
        return True
    return (not action.text or GOING_ON.search(action.text) is not None) and kind_of_work(state, action) == name


def machines(state: SafetyState) -> str:
    return ", ".join(item if isinstance(item, str) else item.name for item in state.equipment_in_use)


def lifting(state: SafetyState, action: Action) -> bool:
    """Whether a crane is to lift: by the action, or by going on with a task that lifts."""
    if action.kind == "lift" or LIFTING.search(action.text):
        return action.kind == "lift" or not SECURING.search(action.text)
    return bool(
        (not action.text or GOING_ON.search(action.text))
        and LIFTING.search(f"{state.task_description} {state.work_started}")
    )


def crane_work(state: SafetyState, action: Action) -> bool:
    """Whether the crane's limit is the one to read the wind against, lifting or not."""
    return lifting(state, action) or kind_of_work(state, action) == "lift"


def wind_limit(state: SafetyState, action: Action) -> float:
    """The strictest wind limit named by the action or the equipment, mph; else the default for cranes."""
    named = [
        float(v)
        for k, v in action.arguments.items()
        if "wind_limit" in k and isinstance(v, int | float) and not isinstance(v, bool) and v > 0
    ]
    named += [e.wind_limit_mph for e in state.equipment_in_use if isinstance(e, Equipment) and e.wind_limit_mph]
    return min(named, default=CRANE_WIND_MPH)


def spoken_gust(text: str) -> float | None:
    """The strongest wind that a text reports, mph; limits, conditions and forecasts are not reports."""
    found = [
        float(m["n"]) * TO_MPH[m["u"].lower()[:2] if m["u"].lower() != "mph" else "mph"]
        for m in SPEED.finditer(text)
        if not HYPOTHETICAL.search(m["gap"]) and not HYPOTHETICAL.search(text[max(0, m.start() - 14) : m.start()])
    ]
    return round(max(found), 1) if found else None


def gust(state: SafetyState, action: Action) -> float | None:
    """The strongest wind known, mph: as measured, as an argument, or as reported in words.

    Once a step has been taken, its reading replaces what was reported before it.
    """
    measured = state.environmental_conditions.gust
    if state.steps_elapsed and measured is not None:
        return measured
    arguments = [
        float(v)
        for k, v in action.arguments.items()
        if k in ("gust_mph", "wind_mph") and isinstance(v, int | float) and not isinstance(v, bool)
    ]
    spoken = spoken_gust(" . ".join((action.text, *state.recent_observations, *state.active_hazards)))
    known = [v for v in (measured, spoken, *arguments) if v is not None]
    return max(known, default=None)


def feet(text: str) -> float | None:
    """The greatest length in a text, in feet."""
    found = [float(n) * (3.281 if unit.lower().startswith("m") else 1.0) for n, unit in LENGTH.findall(text)]
    return max(found, default=None)


def symptomatic(state: SafetyState, action: Action) -> bool:
    """Whether someone on the crew is reported unwell."""
    reports = (*state.crew_status.observations, *state.recent_observations, *state.active_hazards, action.text)
    reports = tuple(NAMED_HAZARD.sub(" ", text) for text in reports)
    return state.crew_status.symptoms != "none" or any(
        not WELL.search(text[: hit.start()]) for text in reports for hit in SICK.finditer(text)
    )
