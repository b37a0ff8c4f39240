"""Anybody's history becomes cases, and nothing gets lost or looked at that must not be."""

import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from models.extraction.extract import Case, extract
from models.extraction.mapping import SHIPPED, HistoryMapping, Source, guess, load
from models.extraction.quality import leak, quality
from models.extraction.sources import Record, Rejection, records
from models.extraction.split import by_group, by_time, rotated
from service.domains import catalog
from service.vocabulary.outcome import UnknownOutcome

HELPDESK = catalog()["helpdesk"]
MAPPING: dict[str, Any] = {
    "file": "tickets*.jsonl*",
    "domain": "helpdesk",
    "group": "who",
    "when": "at",
    "state": {
        "description": {"text": "{issue.what} on {issue.where}"},
        "priority": {"path": "issue.rank", "words": {"1": "critical", "otherwise": "low"}},
        "conversation_history": {
            "path": "said",
            "most": 2,
            "each": {"role": {"path": "by", "words": {"caller": "user", "otherwise": "agent"}}, "content": "text"},
        },
        "information_gathered": {"items": [{"path": "issue.os"}, {"path": "issue.browser"}]},
        "environment": {"parts": {"accounts_affected": "issue.count"}},
    },
    "action": {"kind": {"value": "restart"}, "text": {"text": "Restart {issue.where}"}},
    "codes": ["issue.where"],
    "seen": ["issue"],
    "ignored": ["issue.count"],
    "subgroups": {"rank": "issue.rank", "size": "issue.count"},
    "bands": {"size": [10, 100]},
    "questions": [
        {
            "name": "outage",
            "label": "label.down",
            "adverse": [True],
            "benign": [False],
            "outcomes": ["resolved", "service_outage"],
        }
    ],
}


def mapping(**changes: Any) -> HistoryMapping:
    return HistoryMapping.model_validate(MAPPING | changes)


def record(down: Any = True, **changes: Any) -> dict[str, Any]:
    issue = {"what": "slow", "where": "db7", "rank": 1, "os": "linux", "count": 40}
    told = [{"by": "caller", "text": "first"}, {"by": "bot", "text": "second"}, {"by": "caller", "text": "third"}]
    return {
        "who": "ann",
        "at": "2026-01-02T03:04:05+00:00",
        "issue": issue,
        "said": told,
        "label": {"down": down},
    } | changes


def found(*contents: Mapping[str, Any], **changes: Any) -> list[Case | Rejection]:
    held = mapping(**changes)
    lines = [Record(number, dict(content)) for number, content in enumerate(contents, 1)]
    return list(extract(lines, held, held.questions[0], HELPDESK))


def one(*contents: Mapping[str, Any], **changes: Any) -> Case:
    case = found(*contents, **changes)[0]
    assert isinstance(case, Case), case
    return case


# sources


@pytest.mark.parametrize("name", ["history.jsonl", "history.jsonl.gz"])
def test_a_malformed_line_is_rejected_by_its_number_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    content = b'{"a": 1}\n\n{"a": \n[1]\n\xff\n{"a": 2}\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    read = list(records(tmp_path / name))
    assert [each for each in read if isinstance(each, Record)] == [Record(1, {"a": 1}), Record(6, {"a": 2})]
    assert [(each.line, each.reason[:8]) for each in read if isinstance(each, Rejection)] == [
        (3, "not JSON"),
        (4, "not a JS"),
        (5, "not JSON"),
    ]


def test_a_file_that_breaks_off_says_where(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"n": Random(str(number)).random()}) + "\n" for number in range(2_000))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:8_000])
    *read, last = records(tmp_path / "cut.jsonl.gz")
    assert all(isinstance(each, Record) for each in read) and isinstance(last, Rejection)
    assert last.line == len(read) + 1 and "breaks off" in last.reason


# mapping


def test_a_record_reads_in_the_words_of_the_domain() -> None:
    state = one(record()).state
    assert (state.description, state.priority, state.environment.accounts_affected) == ("slow on db7", "critical", 40)
    assert [(said.role, said.content) for said in state.conversation_history] == [
        ("agent", "second"),
        ("user", "third"),
    ]
    assert state.information_gathered == ("linux",)


def test_the_action_the_label_and_the_subgroups_come_with_it() -> None:
    case = one(record())
    assert (case.action.kind, case.action.text) == ("restart", "Restart db7")
    assert (case.adverse, case.outcome, case.group) == (True, "service_outage", "ann")
    assert case.subgroups == {"rank": "1", "size": "10-100"}
    assert one(record(down=False)).outcome == "resolved"


def test_a_code_is_one_word_with_its_name_and_what_is_ignored_is_not_told() -> None:
    case = one(record())
    assert case.told == "what slow ; where_db7 ; rank 1 ; os linux" and case.codes == ("where=db7",)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": {"description": "label.down"}},
        {"action": {"kind": {"value": "x"}, "text": {"text": "after {outcome.text}"}}},
        {"text": {"text": "{meta.note}"}},
        {"codes": ["next_state.x"]},
        {"seen": ["issue", "label"]},
        {"state": {"environment": {"parts": {"system": "decisions.0"}}}},
    ],
)
def test_a_mapping_that_reads_what_is_known_only_afterwards_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="known only afterwards"):
        mapping(**changes)


def test_a_misspelt_mapping_is_refused() -> None:
    with pytest.raises(ValidationError):
        Source.model_validate({"pth": "issue.what"})


def test_every_shipped_mapping_fits_its_name_and_its_domain() -> None:
    shipped = sorted(SHIPPED.glob("*.yaml"))
    assert len(shipped) == 6
    for path in shipped:
        held = load(path)
        assert guess(Path(f"{path.stem}.jsonl.gz")) == path
        for question in held.questions:
            assert list(extract([], held, question, catalog()[held.domain])) == []
    assert guess(Path("unheard_of.jsonl")) is None


# extraction


def test_what_is_neither_adverse_nor_benign_is_left_out_and_counted() -> None:
    told = quality(found(record(), record(down=None), record(down="unclear"), record(down="unclear")))
    assert told.cases == 1
    assert told.rejected == {"no label.down": 1, "left out: label.down is unclear": 2}
    assert told.first_rejected["left out: label.down is unclear"] == 3


def test_a_state_that_the_domain_refuses_is_rejected_by_its_field() -> None:
    (refused,) = found(record(issue={"count": -1}))
    assert isinstance(refused, Rejection) and refused.line == 1
    assert refused.reason.startswith("environment.accounts_affected: ")


def test_a_record_without_its_group_or_with_no_time_is_rejected() -> None:
    reasons = [each.reason for each in found(record(who=None), record(at="soon")) if isinstance(each, Rejection)]
    assert reasons[0] == "no who" and reasons[1].startswith("at: ")


def test_a_question_is_asked_only_where_it_applies() -> None:
    asked = [MAPPING["questions"][0] | {"where": {"issue.rank": [2]}}]
    (refused,) = found(record(), questions=asked)
    assert isinstance(refused, Rejection) and refused.reason == "not asked: issue.rank is 1"


@pytest.mark.parametrize(
    ("outcomes", "error"),
    [(["resolved", "explosion"], UnknownOutcome), (["service_outage", "resolved"], ValueError)],
)
def test_outcomes_must_be_on_the_scale_and_the_adverse_one_worse(outcomes: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        found(record(), questions=[MAPPING["questions"][0] | {"outcomes": outcomes}])


# quality


def test_repeats_and_contradictions_are_counted() -> None:
    told = quality(found(record(), record(), record(down=False), record(who="bob", issue={"what": "other"})))
    assert (told.cases, told.groups, told.adverse, told.repeated, told.contradicting) == (4, 2, 3, 2, 1)
    assert told.balance == 0.75


def test_a_leak_between_two_sides_is_reported() -> None:
    mine = [one(record()), one(record(who="bob", issue={"what": "else"}))]
    other = [one(record(who="cat")), one(record(who="bob", issue={"what": "third"}))]
    told = leak(mine, other)
    assert told.groups == ("bob",) and told.texts == 1
    assert leak(mine[:1], other[1:]).groups == ()


# splits


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_straddle_and_every_one_is_scored_once(seed: int) -> None:
    groups = [f"g{number % 13}" for number in range(100)]
    scored: list[int] = []
    for split in [*rotated(groups, 5, seed)]:
        assert not {groups[i] for i in split.recorded} & {groups[i] for i in split.scored}
        scored += split.scored.tolist()
    assert sorted(scored) == list(range(100))
    single = by_group(groups, 0.4, seed)
    assert not {groups[i] for i in single.recorded} & {groups[i] for i in single.scored}
    assert len({groups[i] for i in single.scored}) == 5 and len(single.recorded) + len(single.scored) == 100


def test_a_split_by_time_learns_from_the_past_alone() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    when = [start + timedelta(days=(7 * number) % 50) for number in range(50)]
    groups = [f"g{number}" for number in range(48)] + ["both", "both"]
    when[48], when[49] = start, start + timedelta(days=49)
    split = by_time(groups, when, 0.4)
    assert max(when[i] for i in split.recorded) < min(when[i] for i in split.scored)
    assert not {48, 49} & {*split.recorded.tolist(), *split.scored.tolist()}
    with pytest.raises(ValueError, match="time"):
        by_time(groups, [None, *when[1:]], 0.4)


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    groups = [f"g{number}" for number in range(40)]
    first, again, other = (by_group(groups, 0.5, seed).scored.tolist() for seed in (1, 1, 2))
    assert first == again != other
