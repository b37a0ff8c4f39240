"""The few things that ten hours may change."""

from typing import Annotated

from pydantic import Field

from service.domains.triage.state import Course
from service.vocabulary.forecast import Changes


class TriageChanges(Changes):
    """How the illness went on: its course, the pain now (0 to 10), the pulse now, and one sign that is new."""

    course: Course = ""
    pain: int | None = None
    heart_rate: int | None = None
    new_sign: Annotated[str, Field(max_length=60)] = ""
