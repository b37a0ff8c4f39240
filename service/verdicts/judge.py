"""The door of the judging room: evidence in, an explained verdict out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from service.verdicts import explain
from service.verdicts.assess import Lens, assess
from service.verdicts.rule import Doubt, rule
from service.vocabulary.anchor import Match
from service.vocabulary.domain import Domain
from service.vocabulary.proposal import Proposal
from service.vocabulary.rollout import Rollout
from service.vocabulary.verdict import Basis, Explanation, Reason, Recommendation, RuleHit, Ruling, Verdict


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict may rest on. `floor` is how alike a recorded case must be to be cited."""

    basis: Basis
    rollouts: Sequence[Rollout] = ()
    requested: int = 0
    matches: Sequence[Match] = ()
    rules: Sequence[RuleHit] = ()
    doubt: Doubt = Doubt()
    gate: Reason | None = None
    floor: float = 0.75
    notes: tuple[str, ...] = ()


def judge(domain: Domain, proposal: Proposal, evidence: Evidence, lens: Lens, now: datetime) -> Verdict:
    verdict = _verdict(domain, evidence, lens)
    wrong = [rollout for rollout in evidence.rollouts if lens.went_wrong(rollout)]
    factors = domain.risk_factors(proposal, wrong) if verdict.reason is not Reason.not_high_impact else ()
    cited = explain.precedents(evidence.matches, lens, evidence.floor)
    asked = domain.questions(proposal.state, verdict.assessment) if verdict.ruling is Ruling.escalate else ()
    story = Explanation(
        summary=explain.summary(verdict, lens, wrong, factors, evidence.rules, cited, now),
        risk_factors=tuple(factors),
        rules=tuple(evidence.rules),
        patterns=explain.patterns(wrong, lens),
        precedents=cited,
        questions=tuple(asked),
        notes=evidence.notes,
    )
    return replace(verdict, explanation=story)


def _verdict(domain: Domain, evidence: Evidence, lens: Lens) -> Verdict:
    if evidence.gate is Reason.not_high_impact:
        return Verdict.approve(evidence.gate, Basis.none)
    if evidence.gate is not None:
        return Verdict.escalate(evidence.gate, evidence.basis)
    if evidence.basis is Basis.none:
        return Verdict.escalate(Reason.world_model_unavailable, Basis.none)
    return rule(assess(evidence.rollouts, evidence.requested, lens), domain.policy, evidence.basis, evidence.doubt)


def with_recommendation(verdict: Verdict, recommended: Recommendation | None) -> Verdict:
    """The verdict with its safer alternative, and the way past it."""
    if verdict.ruling is Ruling.approve:
        return verdict
    told = verdict.explanation
    advice = ""
    if recommended is not None:
        text = recommended.text.rstrip(".")
        advice = f" Recommended: {text[:1].lower()}{text[1:]} ({recommended.adverse_probability:.2f} adverse)."
    summary = f"{told.summary}{advice} Override requires supervisor sign-off."
    return replace(verdict, explanation=replace(told, summary=summary, recommended_action=recommended))
