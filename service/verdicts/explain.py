"""Evidence that a supervisor can read: one summary sentence, and the parts it is made of."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from service.verdicts.assess import Lens
from service.vocabulary.anchor import Match
from service.vocabulary.rollout import Rollout
from service.vocabulary.verdict import Assessment, Basis, Precedent, Reason, RiskFactor, RuleHit, Ruling, Verdict

RECENT = timedelta(days=548)
"""Eighteen months: how far back a like incident is counted in the summary."""
CITED = 3
PATTERNS = 3

BECAUSE = {
    Reason.not_high_impact: "This kind of action is not simulated: it changes nothing by itself.",
    Reason.disabled_by_operator: "An operator has switched automatic approval off.",
    Reason.world_model_unavailable: "The world model could not answer, so nothing vouches for this action.",
    Reason.too_few_rollouts: "Too few futures could be played out to vouch for this action.",
    Reason.interval_straddles_threshold: "The risk is too close to the limit to tell.",
    Reason.unfamiliar_situation: "Nothing recorded is like this situation, so the forecast is not trusted.",
    Reason.text_driven_optimism: "The words make this look much safer than the measured facts do.",
}


def precedents(matches: Sequence[Match], lens: Lens, floor: float) -> tuple[Precedent, ...]:
    """Recorded cases at least as alike as `floor` whose sequel was adverse, most alike first."""
    return tuple(
        Precedent(m.anchor.id, m.anchor.when, m.anchor.outcome, round(m.similarity, 3), m.anchor.summary)
        for m in matches
        if m.similarity >= floor and m.anchor.outcome in lens.adverse
    )[:CITED]


def patterns(adverse: Sequence[Rollout], lens: Lens) -> tuple[str, ...]:
    """What was seen to go wrong, the most frequent first, in the futures' own words."""
    endings = Counter(_ending(rollout, lens) for rollout in adverse)
    return tuple(f"{count} x {text}" for text, count in endings.most_common(PATTERNS))


def summary(
    verdict: Verdict,
    lens: Lens,
    adverse: Sequence[Rollout],
    factors: Sequence[RiskFactor],
    rules: Sequence[RuleHit],
    cited: Sequence[Precedent],
    now: datetime,
) -> str:
    """Everything but the recommendation and the sign-off, which are added when they are known."""
    sentences = [f"{rule.text.rstrip('.')} ({rule.source})." for rule in rules]
    if verdict.reason in BECAUSE:
        sentences.append(BECAUSE[verdict.reason])
    if verdict.assessment is not None:
        sentences.append(_futures(verdict.basis, verdict.assessment, lens, adverse))
    exceeded = [factor for factor in factors if factor.exceeded]
    if exceeded:
        sentences.append(f"Risk factors: {', '.join(map(factor_in_words, exceeded[:4]))}.")
    recent = sum(now - precedent.when <= RECENT for precedent in cited)
    if recent and verdict.ruling is Ruling.escalate:
        sentences.append(f"{recent} similar incident{'s' * (recent > 1)} in the past 18 months.")
    return " ".join(sentences)


def factor_in_words(factor: RiskFactor) -> str:
    unit = f" {factor.unit}" if factor.unit else ""
    return f"{factor.name} {_number(factor.value)}{unit} (limit {_number(factor.threshold)})"


def _futures(basis: Basis, assessment: Assessment, lens: Lens, adverse: Sequence[Rollout]) -> str:
    kind = "simulated futures" if basis is Basis.simulated else "replays of recorded cases"
    if assessment.faults == assessment.requested:
        return f"{assessment.faults} of {assessment.requested} {kind} could not be read."
    count = f"{assessment.adverse} of {assessment.requested} {kind}"
    low, high = assessment.interval
    risk = f"risk {assessment.adverse_probability:.2f}, interval {low:.2f}-{high:.2f}"
    if assessment.cut_short:
        risk += f"; {assessment.cut_short} cut short"
    if not adverse:
        return f"{count} end badly ({risk})."
    worst = Counter(_worst(rollout, lens) for rollout in adverse).most_common(1)[0][0]
    return f"{count} predict {lens.outcomes[worst].meaning}{_seen(adverse)} ({risk})."


def _seen(adverse: Sequence[Rollout]) -> str:
    seen = next((r.steps[-1].transition.observation for r in adverse if r.steps[-1].transition.observation), "")
    return f": “{seen.rstrip('.')}”" if seen else ""


def _ending(rollout: Rollout, lens: Lens) -> str:
    seen = rollout.steps[-1].transition.observation
    return f"{_worst(rollout, lens)} after step {len(rollout.steps)}" + (f": {seen}" if seen else "")


def _worst(rollout: Rollout, lens: Lens) -> str:
    return max(rollout.outcomes, key=lens.outcomes.names.index)


def _number(value: float | int | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
