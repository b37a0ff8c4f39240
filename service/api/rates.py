"""How many simulated tokens a credential may spend: a bucket that fills evenly, a minute's worth deep."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.api.callers import Caller
from service.deadline import Clock
from service.errors import RateLimited
from service.vocabulary.decision import Decision

STEP_TOKENS = 4
"""What a step of a future is taken to cost until it is known: `make bench` counts 100 for five futures of five steps."""


@dataclass(eq=False)
class Purchase:
    """Tokens that were set aside for one evaluation, and what it came to."""

    reserved: int
    spent: int = 0

    def pay(self, decision: Decision) -> None:
        self.spent = decision.rollouts.tokens if decision.rollouts else 0


@dataclass(eq=False)
class Bucket:
    level: float
    at: float


class Rates:
    """In this process: with several, each grants the whole rate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    @contextmanager
    def buying(self, caller: Caller, steps: int) -> Iterator[Purchase]:
        """Sets tokens for so many steps aside, and gives back what was not needed. Raises `RateLimited`."""
        purchase = Purchase(steps * STEP_TOKENS)
        if caller.tokens_per_minute is None:
            yield purchase
            return
        bucket = self._filled(caller, caller.tokens_per_minute)
        purchase.reserved = min(purchase.reserved, caller.tokens_per_minute)
        short = purchase.reserved - bucket.level
        if short > 0:
            wait = math.ceil(short * 60 / caller.tokens_per_minute)
            raise RateLimited(
                f"this credential may have {caller.tokens_per_minute} simulated tokens a minute", retry_after=wait
            )
        bucket.level -= purchase.reserved
        try:
            yield purchase
        finally:
            bucket.level += purchase.reserved - purchase.spent

    def _filled(self, caller: Caller, rate: int) -> Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault((caller.tenant, caller.name), Bucket(rate, now))
        bucket.level, bucket.at = min(rate, bucket.level + (now - bucket.at) * rate / 60), now
        return bucket
