"""What the tests of the service as a whole share."""

import asyncio
from collections.abc import Iterator

import pytest

from service.anchors.edge import EdgeAnchorBank
from service.anchors.encoder import Encoder
from tests.service.house import stocked


@pytest.fixture(scope="module")
def bank(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeAnchorBank]:
    """It holds the known case."""
    made = stocked(tmp_path_factory.mktemp("anchors"), encoder)
    yield made
    asyncio.run(made.aclose())
