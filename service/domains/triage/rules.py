"""Never-miss rules: few, certain, and only against advice to stay out of hospital."""

import re
from collections.abc import Iterator

from service.domains.triage import news2
from service.domains.triage.policy import high_impact
from service.domains.triage.reading import affirmed
from service.domains.triage.state import TriageState
from service.vocabulary.proposal import Proposal
from service.vocabulary.verdict import RuleHit


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_PRESSING = r"(crush\w*|squeez\w*|(?<!blood )pressure|tight\w*|heav\w*|vice|elephant|band around)"
_TAKEN = r"(sting|stung|ate|eaten|eating|peanuts?|nuts?|shellfish|allerg\w+|hives|penicillin|antibiotic|bee|wasp)"
_AIRWAY = (
    r"((throat|tongue|lips?)( \w+){0,2} (clos\w+|swell\w*|swollen|tight\w*)|swollen (tongue|lips?|throat)"
    r"|swelling of( \w+)? (tongue|lips?|throat)|can('?t|not) (breathe|swallow)|struggling (to breathe|for breath)|wheez\w+)"
)
_SUICIDE = (
    r"(suicid\w+|kill (my|him|her|them)sel\w+|end(ing)? (my|his|her|their) (own )?life|want(s)? to die|end it all)"
)
_MEANS = r"\b(plan(s|ned)?|pills?|tablets|rope|gun|knife|bridge|train|overdos\w+|tonight|stockpil\w+|saved up|goodbye|note)\b"

# Each row: rule, every pattern that must be affirmed somewhere in the call, what it says, whose rule it is.
_IN_TEXT = (
    (
        "stroke_signs",
        (
            _words(
                r"(face|mouth|smile)( \w+){0,3} (droop\w*|dropp\w*|lopsided|fallen)|facial (droop|weakness)|drooping (face|mouth)"
                r"|slurr\w+ (speech|words)|speech( \w+){0,2} slurr\w+|slurring|one.sided weakness|hemiparesis|hemiplegia"
                r"|(weak|numb)\w*( \w+){0,3} (on )?(one|his|her|my|the|left|right)( left| right)? side"
                r"|(left|right|one) (arm|side)( \w+){0,3} (weak|limp|paralys\w+|not move|won'?t move)"
            ),
        ),
        "stroke signs (face, arm, speech) need an ambulance now",
        "NICE NG128 (FAST)",
    ),
    (
        "cardiac_chest_pain",
        (
            _words(rf"{_PRESSING}( \w+){{0,4}} (chest|breast ?bone|sternum)|(chest|sternum)( \w+){{0,4}} {_PRESSING}"),
            _words(r"sweat\w*|clammy|diaphor\w+"),
        ),
        "crushing chest pain with sweating is a heart attack until proven otherwise",
        "NICE CG95",
    ),
    (
        "thunderclap_headache",
        (
            _words(
                r"thunder ?clap|(worst|hit)( \w+){0,4} head(ache)?\b.{0,60}\b(sudden\w*|seconds|instant\w*|out of nowhere|abrupt\w*)"
                r"|(sudden\w*|seconds|instant\w*|abrupt\w*)\b.{0,60}\bworst( \w+){0,3} headache"
            ),
        ),
        "a sudden worst-ever headache is a subarachnoid bleed until proven otherwise",
        "NICE NG228",
    ),
    (
        "anaphylaxis",
        (_words(rf"\b{_TAKEN}\b"), _words(_AIRWAY)),
        "an allergic reaction that reaches the airway needs adrenaline and an ambulance",
        "NICE CG134",
    ),
    (
        "suicide_plan",
        (_words(_SUICIDE), _words(_MEANS)),
        "intent to die with a plan or means is an emergency",
        "NICE NG225",
    ),
)

_FLAGS = _words(
    r"stroke|\bfast\b|droop|slurred|one.sided weak|hemip|crushing|cardiac|\bacs\b|heart attack|myocardial|thunderclap|worst.*headache"
    r"|anaphyla|airway|suicid|melaena|melena|hematemesis|haematemesis|vomiting blood|cauda equina|saddle|non.?blanching|purpur"
    r"|mening|neck stiff|stiff neck|seizure|fitting|syncope|loss of consciousness|unconscious|unresponsive|confus|cyanos|blue lips"
    r"|severe (breath|dysp|bleed)|septic|sepsis|ectopic|testicular torsion|aneurysm|dissection|ketoacidosis|\bdka\b|choking|stridor"
)
_FEVER = _words(
    r"\b(38|39|40|41)([.,]\d)?\s*(°|degrees|deg|c\b)|\b10[1-5]([.,]\d)?\s*(°|degrees|deg|f\b)|\b100[.,][4-9]"
)
_AGE_TEXT = _words(
    r"\b(?P<n>\d{1,2}|two|three|four|five|six|seven|eight|nine|ten)[\s-]*(?P<unit>day|week|month)s?[\s-]*old"
)
_NUMBERS = ("", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WEEKS = {"day": 1 / 7, "week": 1.0, "month": 52 / 12}


def hard_rules(proposal: Proposal) -> tuple[RuleHit, ...]:
    """The rules that advice against hospital breaks. Advice to go there breaks none."""
    if not high_impact(proposal.action):
        return ()
    state: TriageState = proposal.state
    return (*_vital_signs(state), *_infant_fever(state), *_red_flags(state), *_text(state))


def _vital_signs(state: TriageState) -> Iterator[RuleHit]:
    early = news2.score(state)
    if early is not None and (early.total >= 5 or early.extreme):
        why = f"NEWS2 {early.total}" + (f", {' and '.join(early.extreme)} alone scores 3" if early.extreme else "")
        yield RuleHit("unstable_vital_sign", f"{why}: urgent assessment is due", news2.SOURCE)
    if _child(state) and (_over(state.vitals.resp_rate, 60) or _under(state.vitals.spo2, 92) or _drowsy(state)):
        yield RuleHit("child_red_sign", "breathing, oxygen or alertness is in the red column for a child", "NICE NG143")


def _child(state: TriageState) -> bool:
    return state.age is not None and state.age < news2.ADULT_FROM


def _over(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _under(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


def _drowsy(state: TriageState) -> bool:
    return state.vitals.consciousness not in (None, "A")


def _infant_fever(state: TriageState) -> Iterator[RuleHit]:
    age = _age_in_weeks(state)
    hot = _over(state.vitals.temp_c, 37.99) or (
        state.vitals.temp_c is None and any(affirmed(_FEVER, t) for t in texts(state))
    )
    if age is not None and age < 13 and hot:
        yield RuleHit("infant_fever", "38 °C or more under three months is red: hospital now", "NICE NG143")


def _age_in_weeks(state: TriageState) -> float | None:
    if state.age is not None:
        return state.age * 52
    found = next((m for text in texts(state) if (m := _AGE_TEXT.search(text))), None)
    if found is None:
        return None
    word = found["n"].lower()
    return (int(word) if word.isdigit() else _NUMBERS.index(word)) * _WEEKS[found["unit"].lower()]


def _red_flags(state: TriageState) -> Iterator[RuleHit]:
    for flag in state.red_flags_identified:
        if affirmed(_FLAGS, flag.replace("_", " ")):
            yield RuleHit(
                "never_miss_red_flag", f"red flag identified: {flag}", "Manchester Triage System, Schmitt-Thompson"
            )


def _text(state: TriageState) -> Iterator[RuleHit]:
    spoken = texts(state)
    for rule, patterns, says, source in _IN_TEXT:
        if all(any(affirmed(pattern, text) for text in spoken) for pattern in patterns):
            yield RuleHit(rule, says, source)


def texts(state: TriageState) -> tuple[str, ...]:
    """What was said of the patient; the assistant's own words and what was denied are left out."""
    symptoms = state.symptom_details
    called = (
        m.content for m in state.conversation_history if m.role.lower() not in ("assistant", "agent", "system", "nurse")
    )
    where = f"{symptoms.character} {symptoms.location}".strip()
    head = f"{symptoms.onset} {state.chief_complaint}".strip()
    return tuple(text for text in (head, where, symptoms.radiation, *symptoms.associated, *called) if text)
