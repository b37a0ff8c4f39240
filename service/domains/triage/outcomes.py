"""What may follow advice, and when that means the advice was not ready for it."""

from service.vocabulary.outcome import Outcome, OutcomeScale
from service.vocabulary.severity import Severity

# The scale's rewards are those of advice to stay out of hospital; `appropriateness` knows the other dispositions.
OUTCOMES = OutcomeScale(
    (
        Outcome("settled", Severity.none, 1.0, False, "nothing further needed"),
        Outcome("clinic_visit", Severity.none, 1.0, True, "a routine visit to a clinician"),
        Outcome("ED_required", Severity.minor, -1.0, True, "a need for the emergency department"),
        Outcome("admission", Severity.serious, -1.0, True, "a hospital admission"),
        Outcome("ICU", Severity.critical, -1.0, True, "intensive care"),
        Outcome("death", Severity.critical, -1.0, True, "death"),
    )
)

_PROPER = {
    "home_care": ("settled", "clinic_visit"),
    "clinic_48h": ("settled", "clinic_visit"),
    "urgent_care": ("clinic_visit", "ED_required"),
    "ed_now": ("ED_required", "admission", "ICU", "death"),
    "call_911": ("ED_required", "admission", "ICU", "death"),
}


def appropriateness(disposition: str, outcome: str) -> float:
    """+1 the right place, -0.3 over-triage, -1 under-triage, judged by what followed."""
    proper = _PROPER.get(disposition, _PROPER["home_care"])
    if outcome in proper:
        return 1.0
    return -0.3 if OUTCOMES.names.index(outcome) < OUTCOMES.names.index(proper[0]) else -1.0
