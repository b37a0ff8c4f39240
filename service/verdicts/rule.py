"""From an assessment to a ruling with a reason, tried in order; the first that applies."""

from dataclasses import dataclass

from service.vocabulary.verdict import Assessment, Basis, Reason, RiskPolicy, Verdict


@dataclass(frozen=True, slots=True)
class Doubt:
    """What besides the risk may stand against an approval."""

    unfamiliar: bool = False
    optimistic: bool = False
    world_failed: bool = False


def rule(assessment: Assessment, policy: RiskPolicy, basis: Basis, doubt: Doubt = Doubt()) -> Verdict:
    reason = next((reason for reason, applies in _reasons(assessment, policy, basis, doubt) if applies), None)
    if reason is None:
        return Verdict.approve(Reason.within_tolerance, basis, assessment)
    return Verdict.escalate(reason, basis, assessment)


def straddles(assessment: Assessment, policy: RiskPolicy) -> bool:
    """Whether the interval lies across the threshold, so that more futures could decide."""
    low, high = assessment.interval
    return low <= policy.threshold < high


def _reasons(assessment: Assessment, policy: RiskPolicy, basis: Basis, doubt: Doubt) -> tuple[tuple[Reason, bool], ...]:
    """Harm first: what was seen to go wrong stands, however few futures there were."""
    return (
        (Reason.risk_above_threshold, assessment.interval[0] > policy.threshold),
        (Reason.critical_outcome_likely, assessment.critical_probability > policy.critical_threshold),
        (Reason.world_model_unavailable, basis is not Basis.simulated or doubt.world_failed),
        (Reason.too_few_rollouts, assessment.completed < policy.quorum),
        (Reason.interval_straddles_threshold, assessment.interval[1] > policy.threshold),
        (Reason.unfamiliar_situation, doubt.unfamiliar),
        (Reason.text_driven_optimism, doubt.optimistic),
    )
