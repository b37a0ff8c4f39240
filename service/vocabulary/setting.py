"""What an operator must know of something that may be set."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """Stands in the annotation of the field it describes, and from there on the page (`deploy/settings.md`).

    `failures` are those that it changes: what becomes of requests if it is higher, lower or wrong, or what it names is down.
    """

    what: str
    failures: str
    unit: str = ""
    secret: bool = False
