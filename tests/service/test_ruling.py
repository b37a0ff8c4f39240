"""Who may rule on a decision, when, and what it then amounts to."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decisions.ruling import NEXT, admit, ruled, waits
from service.errors import OverrideRefused
from service.vocabulary.decision import Asked, Decision, Mode, ModelStory, Override, OverrideRuling, OverrideTerms
from service.vocabulary.proposal import Action, Asker, Bound
from service.vocabulary.verdict import Basis, Explanation, Reason, Ruling

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDS = NOON + timedelta(hours=1)
APPROVED, DENIED, EXPIRED, SUPERSEDED, VOID = OverrideRuling


def decision(ruling: Ruling = Ruling.escalate, required: int = 1) -> Decision:
    escalated = ruling is Ruling.escalate
    return Decision(
        decision_id="dec_1",
        at=NOON,
        domain="kettle",
        ruling=ruling,
        reason=Reason.risk_above_threshold if escalated else Reason.not_high_impact,
        basis=Basis.simulated,
        mode=Mode.normal,
        risk=None,
        rollouts=None,
        explanation=Explanation(summary="3 of 5 simulated futures predict a scald."),
        override=OverrideTerms(approvals_required=required, expires_at=ENDS) if escalated else None,
        model=ModelStory(engine="scripted", checkpoint="", codec="", policy="1", anchors="none"),
        proposal=Asked(
            state={}, action=Action(kind="pour"), asker=Asker(), bound=Bound(agent="robot", act="a", state="s")
        ),
        timing_ms={},
    )


def by(supervisor: str, ruling: OverrideRuling = APPROVED, at: datetime = NOON) -> Override:
    return Override(decision_id="dec_1", ruling=ruling, reason="seen in person", supervisor=supervisor, at=at)


def now_at(standing: OverrideRuling | Ruling) -> tuple[Decision, list[Override]]:
    """A decision that stands so."""
    if isinstance(standing, Ruling):
        return decision(standing), []
    return decision(), [by("maria", standing)]


FOLLOWS = {
    **dict.fromkeys(product([Ruling.escalate], OverrideRuling), True),
    **dict.fromkeys(product([Ruling.approve, APPROVED], [DENIED, VOID]), True),
}
"""All that may follow; said here once more, that no change of the table goes unseen."""


@pytest.mark.parametrize("standing", NEXT)
@pytest.mark.parametrize("ruling", OverrideRuling)
def test_what_may_follow_follows_and_nothing_else(standing: OverrideRuling | Ruling, ruling: OverrideRuling) -> None:
    made, rulings = now_at(standing)
    if FOLLOWS.get((standing, ruling)):
        assert admit(made, rulings, by("john", ruling)).overridden == by("john", ruling)
    else:
        with pytest.raises(OverrideRefused):
            admit(made, rulings, by("john", ruling))


def test_every_standing_says_what_may_follow_it() -> None:
    assert set(NEXT) == {*Ruling, *OverrideRuling}


def test_an_escalation_waits_until_somebody_or_something_has_ruled() -> None:
    assert waits(ruled(decision(), [])) and not waits(ruled(decision(Ruling.approve), []))
    assert not any(waits(ruled(decision(), [by("maria", ruling)])) for ruling in OverrideRuling)


def test_it_takes_as_many_people_as_it_takes() -> None:
    three = decision(required=3)
    rulings: list[Override] = []
    for count, who in enumerate(("maria", "john", "ada"), 1):
        standing = admit(three, rulings, by(who))
        rulings.append(by(who))
        assert standing.approvals == tuple(rulings) and waits(standing) is (count < 3)
    assert standing.overridden == by("ada")
    with pytest.raises(OverrideRefused, match="ruled on already: approved"):
        admit(three, rulings, by("bob"))


def test_nobody_approves_twice() -> None:
    with pytest.raises(OverrideRefused, match="maria has approved this already: it takes another person"):
        admit(decision(required=2), [by("maria")], by("maria"))


def test_whoever_approved_may_think_better_of_it() -> None:
    for required in (1, 2):
        standing = admit(decision(required=required), [by("maria")], by("maria", DENIED))
        assert standing.overridden == by("maria", DENIED) and standing.approvals == (by("maria"),)


def test_whoever_asked_may_deny_but_not_approve() -> None:
    with pytest.raises(OverrideRefused, match="whoever asked may not approve it"):
        admit(decision(), [], by("robot"))
    assert admit(decision(), [], by("robot", DENIED)).overridden == by("robot", DENIED)


def test_an_approval_has_its_time_and_a_refusal_has_not() -> None:
    late = ENDS + timedelta(microseconds=1)
    assert admit(decision(), [], by("maria", at=ENDS)).overridden
    with pytest.raises(OverrideRefused, match="the time to override this decision ended at 2026-03-01T13:00:00"):
        admit(decision(), [], by("maria", at=late))
    for ruling in (DENIED, EXPIRED, SUPERSEDED, VOID):
        assert admit(decision(), [], by("maria", ruling, late)).overridden == by("maria", ruling, late)
    assert admit(decision(), [by("maria")], by("maria", DENIED, late)).overridden == by("maria", DENIED, late)


def test_a_half_approved_escalation_may_still_end_in_any_way() -> None:
    for ruling in (DENIED, EXPIRED, SUPERSEDED, VOID):
        standing = admit(decision(required=2), [by("maria")], by("", ruling))
        assert standing.overridden == by("", ruling) and standing.approvals == (by("maria"),) and not waits(standing)


def test_what_is_void_stays_void() -> None:
    for made in (decision(), decision(Ruling.approve)):
        void = admit(made, [], by("", VOID))
        assert void.overridden == by("", VOID) and void.ruling is made.ruling
        for ruling in OverrideRuling:
            with pytest.raises(OverrideRefused, match=r"ruled on already: void"):
                admit(made, [by("", VOID)], by("maria", ruling))


def test_an_approval_of_the_services_own_is_not_approved_again() -> None:
    with pytest.raises(OverrideRefused, match="this decision was an approval: it may be denied, not approved"):
        admit(decision(Ruling.approve), [], by("maria"))


RULINGS = st.builds(by, st.sampled_from(["maria", "john", "robot", ""]), st.sampled_from(OverrideRuling))


@given(st.sampled_from(Ruling), st.integers(1, 3), st.lists(RULINGS, max_size=8))
def test_whatever_is_tried_a_decision_is_only_ever_tightened(
    ruling: Ruling, required: int, tried: list[Override]
) -> None:
    """How freely one may act on it never grows but by as many people as it takes, and never after it fell."""
    made, kept = decision(ruling, required), list[Override]()
    fell = False
    for each in tried:
        try:
            standing = admit(made, kept, each)
        except OverrideRefused:
            continue
        kept.append(each)
        assert not fell, "nothing follows what is final"
        assert standing == ruled(made, kept)
        fell = standing.overridden is not None and standing.overridden.ruling is not APPROVED
        if standing.overridden and standing.overridden.ruling is APPROVED:
            people = {every.supervisor for every in standing.approvals}
            assert len(people) == len(standing.approvals) == required and "robot" not in people
