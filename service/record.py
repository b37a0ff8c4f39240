"""From a verdict to the decision that is kept and answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from service.verdicts.assess import Lens
from service.vocabulary.decision import (
    Asked,
    Decision,
    FutureStep,
    FutureStory,
    Mode,
    ModelStory,
    OverrideTerms,
    Risk,
    RolloutCounts,
)
from service.vocabulary.proposal import Proposal
from service.vocabulary.redaction import Redaction, redact
from service.vocabulary.rollout import Imagined, Rollout
from service.vocabulary.verdict import Assessment, Basis, Explanation, Reason, RiskPolicy, Ruling, Verdict

FREE = {"proposal", "explanation", "futures"}
"""Where a decision holds text that someone wrote, or that tells of it."""
EXPLANATION: TypeAdapter[Explanation] = TypeAdapter(Explanation)
FUTURES: TypeAdapter[tuple[FutureStory, ...] | None] = TypeAdapter(tuple[FutureStory, ...] | None)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is not part of the judgement: id, time, model, and how long it took in seconds."""

    decision_id: str
    at: datetime
    expires_at: datetime
    model: ModelStory
    timing_s: Mapping[str, float]


def write_decision(
    proposal: Proposal,
    policy: RiskPolicy,
    verdict: Verdict,
    notes: Sequence[str],
    futures: Sequence[Rollout] | None,
    lens: Lens,
    stamp: Stamp,
    redactions: Sequence[Redaction] = (),
) -> Decision:
    """As it is kept and answered: without what the domain strikes out. What a permit is bound to is as it was sent."""
    mode = Mode.degraded if notes or verdict.basis is Basis.history_only else Mode.normal
    mode = Mode.shadow if policy.shadows(proposal.action.kind) else mode
    waits = verdict.ruling is Ruling.escalate and mode is not Mode.shadow
    decision = Decision(
        decision_id=stamp.decision_id,
        at=stamp.at,
        domain=proposal.domain,
        ruling=verdict.ruling,
        reason=verdict.reason,
        basis=verdict.basis,
        mode=mode,
        risk=_risk(verdict.assessment, policy),
        rollouts=_counts(verdict.assessment),
        explanation=verdict.explanation,
        override=OverrideTerms(approvals_required=_approvals(verdict, policy), expires_at=stamp.expires_at)
        if waits
        else None,
        model=stamp.model,
        proposal=Asked(
            state=proposal.state.model_dump(mode="json", exclude_unset=True),
            action=proposal.action,
            asker=proposal.asker,
            bound=proposal.bound,
        ),
        timing_ms={name: round(seconds * 1000, 1) for name, seconds in stamp.timing_s.items()},
        futures=None if futures is None else tuple(_future(rollout, lens) for rollout in futures),
    )
    return _redacted(decision, redactions)


def _redacted(decision: Decision, redactions: Sequence[Redaction]) -> Decision:
    told = decision.model_dump(include=FREE, exclude={"proposal": {"bound"}}) if redactions else {}
    kept, struck = redact(told, redactions)
    if not struck or not isinstance(kept, dict):
        return decision
    free = {
        "proposal": Asked.model_validate(kept["proposal"]).model_copy(update={"bound": decision.proposal.bound}),
        "explanation": EXPLANATION.validate_python(kept["explanation"]),
        "futures": FUTURES.validate_python(kept["futures"]),
    }
    return decision.model_copy(update=free | {"redacted": struck})


def _risk(assessment: Assessment | None, policy: RiskPolicy) -> Risk | None:
    if assessment is None or assessment.faults == assessment.requested:  # nothing read is not a risk of nothing
        return None
    low, high = assessment.interval
    return Risk(
        adverse_probability=round(assessment.adverse_probability, 4),
        interval=(round(low, 4), round(high, 4)),
        model_interval=_rounded(assessment.model_interval),
        threshold=policy.threshold,
        critical_probability=round(assessment.critical_probability, 4),
        critical_threshold=policy.critical_threshold,
        outcomes={name: round(p, 4) for name, p in assessment.outcomes.items()},
    )


def _approvals(verdict: Verdict, policy: RiskPolicy) -> int:
    """How many people it takes: more than one only where a rule is broken or a critical outcome likely."""
    told = verdict.assessment
    likely = told is not None and told.critical_probability >= policy.critical_threshold
    critical = likely or verdict.reason in (Reason.critical_outcome_likely, Reason.hard_rule)
    return policy.approvals_required if critical else 1


def _rounded(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    return (round(bounds[0], 4), round(bounds[1], 4)) if bounds else None


def _counts(assessment: Assessment | None) -> RolloutCounts | None:
    if assessment is None:
        return None
    return RolloutCounts(
        requested=assessment.requested,
        completed=assessment.completed,
        adverse=assessment.adverse,
        cut_short=assessment.cut_short,
        faults=assessment.faults,
        tokens=assessment.tokens,
    )


def _future(rollout: Rollout, lens: Lens) -> FutureStory:
    ending = f"{rollout.ending}: {rollout.fault}" if rollout.fault else str(rollout.ending)
    return FutureStory(seed=rollout.seed, ending=ending, steps=tuple(_step(step, lens) for step in rollout.steps))


def _step(step: Imagined, lens: Lens) -> FutureStep:
    told = step.transition
    return FutureStep(
        action=told.action.text or told.action.kind,
        outcome=told.outcome,
        adverse_probability=round(lens.hazard(step.probabilities), 4),
        changes=told.changes.model_dump(mode="json", exclude_defaults=True),
        observation=told.observation,
        grounded_by=step.grounded_by,
    )
