"""What may follow work on a site, mildest first; near misses count (Heinrich's triangle)."""

from service.vocabulary.outcome import Outcome, OutcomeScale
from service.vocabulary.severity import Severity

SCALE = OutcomeScale(
    (
        Outcome("risk_mitigated", Severity.none, 1.0, False, "a hazard brought under control"),
        Outcome("no_incident", Severity.none, 0.5, True, "the task finished without incident"),
        Outcome("neutral", Severity.none, 0.0, False, "work going on unchanged"),
        Outcome("elevated_risk", Severity.none, 0.0, False, "conditions getting worse without harm yet"),
        Outcome("near_miss", Severity.minor, -0.5, True, "a near miss"),
        Outcome("first_aid", Severity.minor, -0.7, True, "an injury needing first aid"),
        Outcome("recordable_incident", Severity.serious, -1.0, True, "a recordable injury"),
        Outcome("serious_incident", Severity.critical, -2.0, True, "a life-threatening incident"),
    )
)
