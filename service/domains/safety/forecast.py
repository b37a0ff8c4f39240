"""What half an hour may change on a site."""

from typing import Literal

from pydantic import Field

from service.domains.safety.state import Symptoms
from service.vocabulary.forecast import Changes

Hazard = Literal["", "wind rising", "crew tiring", "people in the zone", "equipment trouble", "poor visibility"]


class SafetyChanges(Changes):
    """Gusts and symptoms as they are after the step; a hazard that has come up."""

    gust_mph: int | None = Field(default=None, ge=0, le=120)
    symptoms: Symptoms | None = None
    hazard: Hazard = ""
