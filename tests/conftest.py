"""What every test may ask for."""

from pathlib import Path

import pytest

from service.anchors.encoder import Encoder


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(Path(__file__).parent.parent / "build" / "cache")
