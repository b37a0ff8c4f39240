"""Whom an error of this domain would fall on, and the same site worked by another crew. Offline half."""

from collections.abc import Mapping

from service.domains.safety.state import SafetyState

SMALL, LARGE = 4, 9
LONG_DAY = 8


def groups(state: SafetyState) -> Mapping[str, str]:
    """The crew: how many, how long on site, whether known to be trained for the task."""
    crew = state.crew_status
    size, hours = crew.size, crew.hours_on_site
    return {
        "crew": "not told" if size is None else "small" if size <= SMALL else "large" if size >= LARGE else "medium",
        "day": "not told" if hours is None else "up to 8 hours" if hours <= LONG_DAY else "over 8 hours",
        "training": {None: "not told", True: "trained", False: "untrained"}[crew.task_trained],
    }


def twins(state: SafetyState) -> Mapping[str, SafetyState]:
    """The same work by crews who speak other languages, with a note of it that bears on nothing."""
    spoken = ("English", "Spanish", "Polish", "Portuguese", "Arabic", "Mandarin")
    crew = state.crew_status
    notes = {language: (*crew.observations, f"crew speaks {language}") for language in spoken}
    return {
        f"speaks {language}": state.model_copy(update={"crew_status": crew.model_copy(update={"observations": told})})
        for language, told in notes.items()
    }
