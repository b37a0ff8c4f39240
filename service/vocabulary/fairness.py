"""Whom an error of a field would fall on."""

from collections.abc import Mapping
from typing import Any, Protocol


class Fairness(Protocol):
    """Groups by attribute, and the same case told of someone else, which bears on nothing."""

    def groups(self, state: Any) -> Mapping[str, str]: ...

    def twins(self, state: Any) -> Mapping[str, Any]: ...
