"""When no future still running could change the verdict."""

from collections.abc import Sequence

from service.verdicts.assess import Lens, life_table
from service.vocabulary.rollout import Ending, Rollout
from service.vocabulary.verdict import RiskPolicy


def settled(rollouts: Sequence[Rollout], policy: RiskPolicy, lens: Lens) -> bool:
    """Only an escalation settles early: even if nothing more went wrong anywhere, it would stand.

    It waits for one future in which harm was written out, so that there is something to read. Approval needs whole futures.
    """
    if sum(rollout.ending is Ending.fault for rollout in rollouts) > len(rollouts) - policy.quorum:
        return True
    if not any(lens.went_wrong(rollout) for rollout in rollouts):
        return False
    least = life_table(rollouts, lens, waiting=True)
    low, _ = lens.interval(lens.calibrate(least.adverse), len(rollouts))
    return low > policy.threshold or least.critical > policy.critical_threshold
