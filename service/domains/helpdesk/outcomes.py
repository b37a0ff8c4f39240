"""What may follow a helpdesk action, mildest first."""

from service.vocabulary.outcome import Outcome, OutcomeScale
from service.vocabulary.severity import Severity

NONE, MINOR, SERIOUS, CRITICAL = Severity

OUTCOMES = OutcomeScale(
    (
        Outcome("resolved", NONE, 1.0, True, "a solved ticket"),
        Outcome("progress", NONE, 0.3, False, "progress on the ticket"),
        Outcome("continuing", NONE, 0.1, False, "a ticket that goes on as before"),
        Outcome("frustrated", MINOR, -0.3, False, "a frustrated user"),
        Outcome("escalated", MINOR, -0.5, True, "a hand-over to a person"),
        Outcome("abandoned", SERIOUS, -1.0, True, "a ticket given up with its problem unsolved"),
        Outcome("access_lockout", SERIOUS, -1.0, True, "people locked out of their accounts"),
        Outcome("service_outage", SERIOUS, -1.5, True, "a service outage"),
        Outcome("data_exposure", CRITICAL, -2.0, True, "data exposed to people who must not see it"),
    )
)
