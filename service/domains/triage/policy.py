"""How much under-triage is tolerated, and which advice must be tried first."""

import re

from service.domains.triage.reading import affirmed
from service.vocabulary.proposal import Action
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import RiskPolicy

POLICY = RiskPolicy(
    threshold=0.2,
    critical_threshold=0.05,
    adverse_from=Severity.minor,
    rollouts=10,
    max_rollouts=20,
    horizon=5,
    anchor_interval=4,
    quorum=6,
    budget_ms=800,
    temperature=0.8,
    approvals_required=2,
)

_ALIASES = {
    "home_care": ("home", "self_care", "homecare", "selfcare", "home_management"),
    "clinic_48h": ("clinic", "gp_48h", "clinic_48", "primary_care", "gp", "routine_appointment"),
    "urgent_care": ("urgent", "walk_in", "same_day"),
    "ed_now": ("ed", "er", "er_now", "emergency", "emergency_department", "emergency_room"),
    "call_911": ("911", "999", "112", "ambulance", "call_999", "call_112", "ems"),
    "ask": ("question", "ask_question", "clarify", "look_up", "lookup"),
}
_KNOWN = {alias: kind for kind, aliases in _ALIASES.items() for alias in (kind, *aliases)}
_ADVERSE_FROM = {
    "urgent_care": Severity.serious,
    "ed_now": Severity.critical,
    "call_911": Severity.critical,
    "ask": Severity.critical,
}
_SENDS_HOME = re.compile(
    r"\b(stay|remain|rest|keep \w+|manage(d)?( it)?|go( back)?|sen[dt] \w+|self.?care|safe) (at )?home\b|\btake an? antacid"
    r"|\bno need (to|for) (be seen|come in|go|an? (ambulance|doctor|ed|er))|\bwait and see\b|\bsleep it off\b"
    r"|\bsee (your|the|a|his|her) (gp|doctor|family doctor|pcp) (in|next|on|within|tomorrow|when)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[^.!?;\n]*\?")
_EMERGENCY = re.compile(r"\b(911|999|112|ambulance|paramedics?|emergency|ed|er|a&e|hospital|casualty)\b", re.IGNORECASE)


def disposition(action: Action) -> str:
    """The disposition in the domain's own word; an unknown kind is returned as it came."""
    word = re.sub(r"[\s\-/]+", "_", action.kind.strip().lower())
    return _KNOWN.get(word, word)


def high_impact(action: Action) -> bool:
    """Only under-triage is gated: advice to stay out of hospital, whatever word it is filed under."""
    return disposition(action) not in _ADVERSE_FROM or sends_home(action)


def sends_home(action: Action) -> bool:
    """Whether the text, questions aside, sends someone home and names no emergency service."""
    text = _QUESTION.sub(" ", action.text)
    return affirmed(_SENDS_HOME, text) and not _EMERGENCY.search(text)


def adverse_from(action: Action) -> Severity:
    """An outcome is adverse when it is worse than the disposition was ready for."""
    if high_impact(action):
        return Severity.minor
    return _ADVERSE_FROM[disposition(action)]
