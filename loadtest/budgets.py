"""What a load test offers, and what it holds the service to: `budgets.toml`, read."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from service.domains import catalog
from service.vocabulary.frozen import Frozen

BUDGETS = Path(__file__).with_name("budgets.toml")
Share = Annotated[float, Field(ge=0, le=1)]


class Budget(Frozen):
    """`p50` and `p99` are shares of the domain's own `budget_ms`; the others are shares of what was offered, or answered."""

    p50: float = Field(gt=0)
    p99: float = Field(gt=0)
    errors: Share = 0.0
    refused: Share = 0.0
    late: Share
    simulated: Share


class Profile(Frozen):
    """Arrivals a second; in the last `spike_s` of every `spike_every_s` seconds, `spike` times as many.

    `budget` is every domain's, but for those that have one of their own. `memory_growth_mb` counts from a fifth of the way on.
    """

    rate: float = Field(gt=0)
    duration_s: float = Field(gt=0)
    spike: float = Field(default=1.0, ge=1)
    spike_every_s: float = Field(default=0.0, ge=0)
    spike_s: float = Field(default=0.0, ge=0)
    mix: dict[str, float] = Field(min_length=1)
    budget: Budget
    domains: dict[str, Budget] = {}
    memory_growth_mb: float | None = None

    @property
    def peak(self) -> float:
        return self.rate * self.spike

    def rate_at(self, second: float) -> float:
        spiking = self.spike_every_s and second % self.spike_every_s >= self.spike_every_s - self.spike_s
        return self.peak if spiking else self.rate

    def owed(self, domain: str) -> Budget:
        return self.domains.get(domain, self.budget)


def profile(name: str, path: Path = BUDGETS) -> Profile:
    """Raises `ValueError` for a profile that is not there, or that names a domain that is not."""
    told = tomllib.loads(path.read_text())
    if name not in told:
        raise ValueError(f"{path} has the profiles {', '.join(told)}, and no {name}")
    read = Profile.model_validate(told[name])
    if unknown := ({*read.mix} | {*read.domains}) - {*catalog()}:
        raise ValueError(f"{path}: {name} names {', '.join(sorted(unknown))}, which is no domain")
    return read
