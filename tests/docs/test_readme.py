"""What the README says is true: its commands exist, its paths exist, its requests are taken."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.api.callers import Caller
from service.api.evaluations import read_proposal
from service.api.schemas import EvaluationRequest
from service.domains import catalog
from service.vocabulary.decision import Decision

ROOT = Path(__file__).parents[2]
MADE = ("build/", "premortem-data", ".venv", "models/checkpoints/")
"""What the commands make, `make train` among them; it need not be there."""
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)


@pytest.fixture
def readme() -> str:
    return (ROOT / "README.md").read_text()


def requests(readme: str) -> list[dict[str, Any]]:
    """Every JSON body in it that is put to the service: those in a JSON block, and those that curl sends."""
    told = [json.loads(text) for kind, text in BLOCK.findall(readme) if kind == "json"]
    for kind, text in BLOCK.findall(readme):
        if kind in ("", "sh", "bash", "console"):
            told += [json.loads(sent) for sent in re.findall(r"(?:-d|--data|--json)\s+'(\{.*?\})'", text, re.S)]
    return [each for each in told if isinstance(each, dict)]


def test_nothing_is_left_to_be_filled_in(readme: str) -> None:
    assert re.findall(r"@@\w+@@|\bTODO\b|\bTBD\b", readme) == []


def test_every_command_it_names_is_in_the_makefile(readme: str) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"`make ([a-z][\w-]*)", readme)) | set(
        re.findall(r"^\s*\$? ?make ([a-z][\w-]*)", readme, re.M)
    )
    assert {"demo", "test"} <= named <= targets


def test_every_path_it_names_exists(readme: str) -> None:
    prose = BLOCK.sub("", readme)
    named = {name for name in re.findall(r"`([\w.*-]+(?:/[\w.*-]+)*/?)`", prose) if "/" in name}
    named |= {name.split("#")[0] for name in re.findall(r"\]\(((?!https?:|#|mailto:)[^)]+)\)", prose)}
    missing = [name for name in named if not name.startswith(MADE) and not _is_there(name)]
    assert not missing, f"the README names {sorted(missing)}, which do not exist"


def _is_there(name: str) -> bool:
    """From the root, or as `world/local.py` within the service or the models."""
    return any(True for room in ("", "service", "models") for _ in (ROOT / room).glob(name))


def test_it_shows_a_request_that_is_taken_as_it_stands(readme: str) -> None:
    proposals = [told for told in requests(readme) if {"domain", "state", "action"} <= set(told)]
    assert proposals, "a newcomer needs a request to copy"
    for told in proposals:
        read_proposal(catalog(), EvaluationRequest.model_validate(told), Caller("an agent", frozenset()))


def test_it_shows_an_answer_whose_fields_the_service_really_gives(readme: str) -> None:
    answers = [told for told in requests(readme) if "ruling" in told and "explanation" in told]
    assert answers, "a newcomer wants to see what comes back"
    for told in answers:
        assert set(told) <= set(Decision.model_fields), set(told) - set(Decision.model_fields)


def test_every_setting_it_names_is_on_the_page_of_settings(readme: str) -> None:
    named = set(re.findall(r"PREMORTEM_[A-Z_]*[A-Z]", readme))
    page = (ROOT / "deploy" / "settings.md").read_text()
    assert named and "deploy/settings.md" in readme
    assert {name for name in named if f"`{name}`" not in page} == set()
