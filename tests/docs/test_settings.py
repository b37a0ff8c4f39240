"""The page of settings says what the code says, of every setting."""

import sys
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from service.__main__ import main
from service.domains import catalog
from service.manual import described, setting_of
from service.settings import SECTIONS, Settings
from service.vocabulary.verdict import RiskPolicy

ROOT = Path(__file__).parents[2]
FIELDS = [
    *described(Settings, Settings.model_fields),
    *described(RiskPolicy, [each.name for each in fields(RiskPolicy)]),
]


def test_the_page_is_what_the_command_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["premortem", "settings"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == (ROOT / "deploy" / "settings.md").read_text()


def test_every_line_of_it_has_all_its_cells() -> None:
    tables = [line for line in (ROOT / "deploy" / "settings.md").read_text().splitlines() if line.startswith("| ")]
    assert len(tables) == len(FIELDS) + len(SECTIONS) + 1
    assert {line.count("|") - 1 for line in tables} == {6, 5 + len(catalog())}


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[name for name, _ in FIELDS])
def test_every_setting_says_what_it_is_in_which_unit_and_which_failures_it_changes(name: str, field: FieldInfo) -> None:
    setting = setting_of(name, field)
    assert setting.what and setting.failures
    assert setting.unit or field.annotation not in (int, float), "a number has a unit"


def test_a_setting_that_does_not_say_so_is_not_written() -> None:
    with pytest.raises(ValueError, match="patience_s has no Setting"):
        setting_of("patience_s", FieldInfo.from_annotation(float))


def test_every_section_begins_with_a_setting() -> None:
    assert set(SECTIONS) <= set(Settings.model_fields) and next(iter(SECTIONS)) == next(iter(Settings.model_fields))


def test_what_compose_keeps_secret_is_marked_as_secret() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    kept = {name for name in compose["secrets"] if name.startswith("premortem_")}
    marked = {f"premortem_{name}" for name, field in FIELDS if setting_of(name, field).secret}
    assert kept and kept <= marked


def test_every_policy_lies_within_the_bounds_that_the_page_tells() -> None:
    for domain in catalog().values():
        assert TypeAdapter(RiskPolicy).validate_python(asdict(domain.policy)) == domain.policy
