"""Where a decision leads, as OpenAPI links: from a route that answers one to those that take its id."""

from typing import Any

DECISION = "/v1/decisions/{decision_id}"
ONWARD = {
    "read": ("get", ""),
    "wait": ("get", "/wait"),
    "events": ("get", "/events"),
    "override": ("post", "/override"),
    "state": ("post", "/state"),
    "outcome": ("post", "/outcome"),
    "erase": ("post", "/erasure"),
}


def onward() -> dict[int | str, dict[str, Any]]:
    """For the `responses` of a route that answers a decision."""
    links = {
        name: {
            "operationRef": f"#/paths/{(DECISION + path).replace('/', '~1')}/{method}",
            "parameters": {"decision_id": "$response.body#/decision_id"},
        }
        for name, (method, path) in ONWARD.items()
    }
    return {200: {"links": links}}
