"""How an anchor lies in a vector store: the same for every store."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pydantic import TypeAdapter

from service.vocabulary.anchor import Anchor, Match

TENANT = "tenant"
"""Left out of what is shared, as it was before there were tenants: a bank of that time needs no writing anew."""

KEYWORDS = ("domain", "key.category", TENANT)
TURN = "key.turn"

_ANCHORS = TypeAdapter(Anchor)


def point_id(anchor: Anchor) -> str:
    """A tenant's same id always becomes the same point, so putting an anchor in twice keeps it once."""
    if not anchor.tenant:
        return str(uuid5(NAMESPACE_URL, f"premortem:anchor:{anchor.id}"))
    return str(uuid5(uuid5(NAMESPACE_URL, f"premortem:tenant:{anchor.tenant}"), anchor.id))


def dump(anchor: Anchor) -> dict[str, Any]:
    payload: dict[str, Any] = _ANCHORS.dump_python(anchor, mode="json", exclude_defaults=True)
    return payload


def load(payload: Mapping[str, Any] | None) -> Anchor:
    """Raises pydantic's `ValidationError` for what `dump` has not written."""
    return _ANCHORS.validate_python(payload)


def matches(found: Iterable[tuple[Mapping[str, Any] | None, float]]) -> tuple[Match, ...]:
    """Best first; equals in the order of their ids, the shared one first, so that two stores agree."""
    unordered = [Match(load(payload), min(1.0, max(-1.0, score))) for payload, score in found]
    return tuple(sorted(unordered, key=lambda match: (-match.similarity, match.anchor.id, match.anchor.tenant)))
