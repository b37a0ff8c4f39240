"""A report tells what was measured: every figure promised, every picture, and what the gate said."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="the train extra is not installed")

from models import __main__ as command
from models.validation.pages.head import aims
from models.validation.report import PICTURES
from service.domains import catalog

ROOT = Path(__file__).parents[2]
MINI = ROOT / "models" / "checkpoints" / "mini"
PROMISED = {
    "fidelity": {"overall", "worst_category", "by_category", "cases"},
    "consistency": {"anchored", "unanchored", "anchored_turns_16_20"},
    "estimator_error": {"hazard_1", "hazard_5", "counting_5", "counting_40", "counting_80"},
    "fairness": {"worst_group", "disparity"},
}


def kept() -> dict[str, Any]:
    told: dict[str, Any] = json.loads((MINI / "report.json").read_text())
    return told


@pytest.mark.usefixtures("encoder")
def test_one_command_judges_a_checkpoint_and_writes_page_pictures_and_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work = tmp_path / "build" / "bench" / "history-8"
    work.mkdir(parents=True)
    (work / "cache").symlink_to(ROOT / "build" / "cache")
    (work / "every-turn").mkdir()
    (work / "every-turn" / "cache").symlink_to(ROOT / "build" / "cache")
    asked = ["validate", "--checkpoint", str(MINI), "--history", "8", "--scale", "0.001", "--out", "judged"]
    monkeypatch.setattr(sys, "argv", ["premortem-models", *asked])
    with pytest.raises(SystemExit) as ended:
        command.main()
    told = json.loads(Path("judged/report.json").read_text())
    assert (ended.value.code == 0) is told["gate"]["may_serve"]
    holds_what_was_promised(told)
    page = Path("judged/REPORT.md").read_text()
    for name in PICTURES:
        assert f"plots/{name}.png" in page
        assert Path(f"judged/plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert told["command"] in page
    assert all(value[:16] in page for value in told["data"].values())


def holds_what_was_promised(told: dict[str, Any]) -> None:
    for place in (told, *(told["domains"][name] for name in catalog())):
        for key, owed in PROMISED.items():
            assert owed <= set(place[key]), key
        for key in ("auroc", "ece_before", "ece_after"):
            assert {"value", "low", "high", "n"} <= set(place[key])
        assert place["verdict_flips_from_settling"] >= 0


def test_the_bundled_report_is_of_the_bundled_checkpoint_and_lets_it_serve() -> None:
    told, manifest = kept(), json.loads((MINI / "manifest.json").read_text())
    holds_what_was_promised(told)
    assert told["checkpoint"]["files"] == manifest["files"]
    assert told["gate"]["may_serve"]
    assert told["scale"] == 1.0


def test_the_readme_quotes_the_report_to_the_letter() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [line for line in aims(kept()) if line.strip() and not line.startswith("\n##") and line not in readme]
    assert missing == []
