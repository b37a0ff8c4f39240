"""What a supervisor is shown: values against limits, safer ways, and what to ask."""

from collections.abc import Callable, Iterator, Sequence

from service.domains.helpdesk.grounding import measured
from service.domains.helpdesk.policy import LIMITS
from service.domains.helpdesk.rules import principal_in
from service.domains.helpdesk.state import TicketState
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.rollout import Rollout
from service.vocabulary.verdict import Assessment, RiskFactor

NEAR = 0.85
CHANGES = {"change_policy", "change_config", "restart_service", "delete", "install_software"}

FLAGS: tuple[tuple[str, Callable[[TicketState], bool | None], bool, str], ...] = (
    ("change freeze in force", lambda s: s.environment.change_freeze, True,
     "NIST SP 800-128 2.2.1 and ITIL 4 change enablement: no unapproved change in a freeze"),
    ("change tested", lambda s: s.environment.tested, False, "NIST SP 800-53 CM-4(1): test a change before it goes live"),
    ("rollback plan", lambda s: s.environment.rollback_plan, False, "NIST SP 800-53 CM-3: plan to undo a change"),
    ("requester verified", lambda s: s.requester.verified, False,
     "NIST SP 800-63B 4.2: prove identity before account recovery"),
    ("legal hold", lambda s: s.environment.legal_hold, True, "FRCP 37(e): preserve what a legal hold covers"),
)  # fmt: skip


def _seen(name: str, limit: int, rollout: Rollout) -> bool:
    states = (state for step in rollout.steps for state in (step.transition.state, step.transition.next_state))
    return any(measured(state).get(name, 0) > limit for state in states)


def _numbers(state: TicketState, adverse: Sequence[Rollout]) -> Iterator[RiskFactor]:
    values = measured(state)
    for name, limit in LIMITS.items():
        value, seen = values.get(name, 0), sum(_seen(name, limit.most, rollout) for rollout in adverse)
        if value >= NEAR * limit.most or seen:
            yield RiskFactor(name, value, limit.unit, limit.most, limit.source, value > limit.most, seen)


def _flags(proposal: Proposal, adverse: Sequence[Rollout]) -> Iterator[RiskFactor]:
    words = {True: "yes", False: "no"}
    for name, read, bad, source in FLAGS:
        if read(proposal.state) is bad:
            yield RiskFactor(name, words[bad], "", words[not bad], source, True, len(adverse))
    if principal_in(proposal.action.arguments) == "*":
        source = "CIS AWS Foundations 2.1.4: block public access"
        yield RiskFactor("principal", "*", "", "named principals", source, True, len(adverse))


def risk_factors(proposal: Proposal, adverse: Sequence[Rollout]) -> tuple[RiskFactor, ...]:
    found = (*_flags(proposal, adverse), *_numbers(proposal.state, adverse))
    return tuple(sorted(found, key=lambda factor: (not factor.exceeded, -factor.seen_in)))


HAND_OVER = Action(kind="hand_over", text="Hand the ticket to a second-line engineer with everything gathered so far.")
ASK = Action(kind="ask", text="Ask the user for the exact error message, when it began and who else is affected.")
SAFER: dict[str, tuple[Action, ...]] = {
    "advise": (ASK, Action(kind="look_up", text="Look up the sign-in and service logs for the failing account first.")),
    "reset_password": (
        Action(kind="ask", text="Verify the caller by calling back on the number in the directory."),
        Action(kind="advise", text="Send the self-service reset link to the registered device."),
    ),
    "grant_access": (
        Action(kind="grant_access", text="Grant read-only access to the named user for seven days, approved by the owner.",
               arguments={"role": "reader", "days": 7}),
        Action(kind="ask", text="Ask the owner of the resource to approve the access in writing."),
    ),
    "revoke_access": (Action(kind="look_up", text="List what still depends on the access before it is revoked."),),
    "change_policy": (
        Action(kind="change_policy", text="Allow only the named role, read-only, and keep public access blocked.",
               arguments={"principal": "named role"}),
        Action(kind="look_up", text="Check who needs the access and what the policy allows today."),
    ),
    "change_config": (
        Action(kind="change_config", text="Try the change on a pilot group in staging first, with a rollback prepared.",
               arguments={"scope": "pilot"}),
        Action(kind="look_up", text="Check the change calendar and what depends on the setting."),
    ),
    "restart_service": (
        Action(kind="restart_service", text="Drain and restart one node in the maintenance window, then check its health.",
               arguments={"scope": "one"}),
        Action(kind="look_up", text="Check who is connected and read the service log before a restart."),
    ),
    "install_software": (
        Action(kind="install_software", text="Install the approved package from the company portal."),
        Action(kind="look_up", text="Check that the version supports the device's operating system."),
    ),
    "delete": (
        Action(kind="look_up", text="List what would be deleted, its owner, backups and retention."),
        Action(kind="change_config", text="Move the data to an archive with a restore period of 30 days.",
               arguments={"scope": "one"}),
    ),
    "rotate_credential": (
        Action(kind="rotate_credential",
               text="Add a second secret, move the consumers over, check a sign-in, retire the old secret after a week.",
               arguments={"overlap_days": 7}),
        Action(kind="look_up", text="List which services use the credential."),
    ),
    "close_ticket": (Action(kind="follow_up", text="Ask the user to confirm that it works before the ticket is closed."),),
}  # fmt: skip


def alternatives(proposal: Proposal) -> tuple[Action, ...]:
    safer = (*SAFER.get(proposal.action.kind, (ASK,)), HAND_OVER)
    return tuple(action for action in safer if action.text != proposal.action.text)[:3]


ASKABLE: tuple[tuple[Callable[[TicketState], object], str], ...] = (
    (lambda s: s.requester.verified is True, "Has the requester's identity been verified by call-back or in person?"),
    (lambda s: s.environment.stage != "unknown", "Is this a production system or a test system?"),
    (lambda s: s.environment.accounts_affected is not None, "How many accounts or users does it affect?"),
    (lambda s: s.environment.rollback_plan is True, "How would the change be undone, and how fast?"),
    (lambda s: s.environment.tested is True, "Where has the change been tested?"),
    (lambda s: s.environment.change_freeze is False, "Is a change freeze in force, and who may lift it?"),
    (lambda s: s.information_gathered, "What exactly does the error message say, and since when?"),
    (lambda s: False, "Who owns the system, and has the owner agreed?"),
    (lambda s: False, "What else depends on the system or the credential?"),
    (lambda s: False, "What has been tried so far, and what did it change?"),
)


def questions(state: TicketState, assessment: Assessment | None) -> tuple[str, ...]:
    return tuple(question for known, question in ASKABLE if not known(state))[:5]
