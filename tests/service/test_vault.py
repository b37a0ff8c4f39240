"""What is sealed is read with its salt and its master, by no other means, and once the salt is gone by none."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import from_json

from service.decisions.chain import Kind, sorted_json
from service.decisions.dossier import told
from service.decisions.outcome import OutcomeReport
from service.decisions.signing import BadSigningKeys
from service.decisions.vault import SEALED, BadMaster, Vault, master
from service.errors import LedgerUnavailable
from service.vocabulary.decision import (
    Asked,
    Decision,
    FutureStep,
    FutureStory,
    Mode,
    ModelStory,
    Override,
    OverrideRuling,
    OverrideTerms,
)
from service.vocabulary.proposal import Action, Asker, Bound
from service.vocabulary.verdict import Basis, Explanation, Precedent, Reason, RiskFactor, Ruling

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OURS = Vault(b"o" * 32)
SALT, OTHER = b"s" * 32, b"t" * 32
MODELS: dict[Kind, type[BaseModel]] = {
    Kind.decision: Decision,
    Kind.adopted_decision: Decision,
    Kind.override: Override,
    Kind.adopted_override: Override,
    Kind.outcome: OutcomeReport,
}

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3)
TIMES = st.datetimes(timezones=st.just(UTC))
SHARES = st.floats(0, 1)
OVERRIDES = st.builds(
    Override,
    decision_id=st.just("dec_1"),
    ruling=st.sampled_from(OverrideRuling),
    reason=WORDS,
    supervisor=st.just("maria"),
    at=TIMES,
)
REPORTS = st.builds(
    OutcomeReport,
    decision_id=st.just("dec_1"),
    outcome=st.just("scald"),
    at=TIMES,
    reporter=st.just("the ward"),
    note=WORDS,
)
EXPLANATIONS = st.builds(
    Explanation,
    WORDS,
    st.tuples(st.builds(RiskFactor, WORDS, st.integers() | WORDS, WORDS, SHARES, WORDS, st.booleans())),
    patterns=st.tuples(WORDS),
    precedents=st.tuples(st.builds(Precedent, WORDS, TIMES, WORDS, SHARES, WORDS)),
    notes=st.tuples(WORDS),
)
STEPS = st.builds(
    FutureStep,
    action=WORDS,
    outcome=WORDS,
    adverse_probability=SHARES,
    changes=OBJECTS,
    observation=WORDS,
    grounded_by=st.none() | WORDS,
)
STORIES = st.builds(FutureStory, seed=st.integers(), ending=WORDS, steps=st.lists(STEPS, max_size=2).map(tuple))
ASKED = st.builds(
    Asked,
    state=OBJECTS,
    action=st.builds(Action, kind=WORDS.filter(bool), text=WORDS, arguments=OBJECTS),
    asker=st.builds(Asker, agent_id=WORDS, correlation_id=WORDS),
    bound=st.none() | st.just(Bound(agent="bot", act="hash", state="hash")),
)


def decision(**changed: Any) -> Decision:
    plain = Decision(
        decision_id="dec_1",
        at=NOON,
        domain="kettle",
        ruling=Ruling.escalate,
        reason=Reason.risk_above_threshold,
        basis=Basis.simulated,
        mode=Mode.normal,
        risk=None,
        rollouts=None,
        explanation=Explanation("3 of 5 simulated futures predict a scald."),
        override=OverrideTerms(approvals_required=2, expires_at=NOON),
        model=ModelStory(engine="scripted", checkpoint="", codec="", policy="1", anchors="none"),
        proposal=Asked(state={"note": "a kettle"}, action=Action(kind="pour"), asker=Asker()),
        timing_ms={"simulate": 12.5},
    )
    return plain.model_copy(update=changed)


DECISIONS = st.builds(
    decision,
    at=TIMES,
    explanation=EXPLANATIONS,
    approvals=st.lists(OVERRIDES, max_size=2).map(tuple),
    overridden=st.none() | OVERRIDES,
    proposal=ASKED,
    futures=st.none() | st.lists(STORIES, max_size=2).map(tuple),
)
RECORDS = st.one_of(
    st.tuples(st.sampled_from([Kind.decision, Kind.adopted_decision]), DECISIONS),
    st.tuples(st.sampled_from([Kind.override, Kind.adopted_override]), OVERRIDES),
    st.tuples(st.just(Kind.outcome), REPORTS),
)


def override(reason: str = "seen in person", **changed: Any) -> Override:
    at = {"decision_id": "dec_1", "ruling": OverrideRuling.approved, "supervisor": "maria", "at": NOON}
    return Override.model_validate(at | {"reason": reason} | changed)


def refused(vault: Vault, salt: bytes, kind: Kind, sealed: str) -> None:
    with pytest.raises(LedgerUnavailable):
        vault.open(salt, kind, sealed)


def swapped(sealed: str, blob: str) -> str:
    return sorted_json(from_json(sealed) | {SEALED: blob}).decode()


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@settings(max_examples=300, deadline=None)
@given(RECORDS, st.binary(min_size=32, max_size=32))
def test_what_was_sealed_opens_to_the_byte(record: tuple[Kind, BaseModel], salt: bytes) -> None:
    kind, value = record
    sealed = OURS.seal(salt, kind, told(value))
    assert sealed == OURS.seal(salt, kind, told(value)), "sealed twice is equal"
    assert sealed == sorted_json(from_json(sealed)).decode(), "canonical"
    assert OURS.open(salt, kind, sealed) == told(value)


@settings(max_examples=200, deadline=None)
@given(RECORDS)
def test_what_is_erased_is_still_a_record_of_its_kind(record: tuple[Kind, BaseModel]) -> None:
    kind, value = record
    erased = OURS.open(None, kind, OURS.seal(SALT, kind, told(value)))
    found = MODELS[kind].model_validate_json(erased)
    assert told(found) == erased
    if isinstance(value, Decision) and isinstance(found, Decision):
        assert found.proposal.state == {} and found.futures is None
        assert found.proposal.action == Action(kind="erased") and found.proposal.asker == Asker(agent_id="erased")
        assert found.explanation == Explanation("Erased on request.")
        assert found.proposal.bound == value.proposal.bound
        private = {"explanation", "proposal", "futures", "approvals", "overridden"}
        assert found.model_dump(exclude=private) == value.model_dump(exclude=private)
        assert [each.reason for each in found.approvals] == ["erased" for _ in value.approvals]
        assert [each.supervisor for each in found.approvals] == [each.supervisor for each in value.approvals]
    else:
        private = {"reason", "note"}
        assert found.model_dump(exclude=private) == value.model_dump(exclude=private)
        assert {"erased"} == {told for name, told in found.model_dump().items() if name in private}


@settings(max_examples=200, deadline=None)
@given(DECISIONS, st.text("abcdefghijkäöß汉", min_size=12, max_size=40))
def test_no_fragment_of_what_is_private_can_be_read_in_what_is_sealed(value: Decision, secret: str) -> None:
    private = value.proposal.model_copy(
        update={
            "state": {"note": secret, secret: 1},
            "action": Action(kind=secret, text=secret, arguments={"to": [secret]}),
            "asker": Asker(agent_id=secret, correlation_id=secret),
        }
    )
    explanation = Explanation(secret, notes=(secret,))
    written = value.model_copy(update={"proposal": private, "explanation": explanation, "overridden": override(secret)})
    rest = OURS.open(None, Kind.decision, OURS.seal(SALT, Kind.decision, told(written)))
    for kind, record in ((Kind.decision, told(written)), (Kind.override, told(override(secret)))):
        public = from_json(OURS.seal(SALT, kind, record))
        del public[SEALED]
        seen = "\n".join(texts(public))
        fragments = {secret[at : at + 6] for at in range(len(secret) - 5)}
        assert not [fragment for fragment in fragments if fragment in seen or fragment in rest]


@settings(max_examples=100, deadline=None)
@given(RECORDS)
def test_only_these_members_stay_open(record: tuple[Kind, BaseModel]) -> None:
    kind, value = record
    public = from_json(OURS.seal(SALT, kind, told(value)))
    if isinstance(value, Decision):
        assert set(public) == set(Decision.model_fields) - {"explanation", "futures"} | {SEALED}
        assert set(public["proposal"]) == {"bound"}
    else:
        assert set(public) == set(type(value).model_fields) - {"reason", "note"} | {SEALED}


@settings(max_examples=300, deadline=None)
@given(RECORDS, st.data())
def test_a_character_changed_anywhere_is_refused_or_reads_the_same(
    record: tuple[Kind, BaseModel], data: st.DataObject
) -> None:
    """What is the same JSON in another spelling, the chain tells; another record is refused here."""
    kind, value = record
    sealed = OURS.seal(SALT, kind, told(value))
    at = data.draw(st.integers(0, len(sealed) - 1))
    mutated = sealed[:at] + data.draw(st.characters(exclude_categories=["Cs"])) + sealed[at + 1 :]
    try:
        opened = OURS.open(SALT, kind, mutated)
    except LedgerUnavailable:
        return
    assert opened in (told(value), mutated)
    if opened == mutated:
        assert f'"{SEALED}"' not in mutated or SEALED not in from_json(mutated)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_bit_of_a_blob_counts(data: st.DataObject) -> None:
    sealed = OURS.seal(SALT, Kind.decision, told(decision()))
    blob = from_json(sealed)[SEALED]
    at = data.draw(st.integers(0, len(blob) - 1))
    letter = data.draw(st.sampled_from("ABCDEFghijkl0189-_+/=! "))
    changed = blob[:at] + letter + blob[at + 1 :]
    if changed != blob:
        refused(OURS, SALT, Kind.decision, swapped(sealed, changed))
    refused(OURS, SALT, Kind.decision, swapped(sealed, blob[:at]))
    refused(OURS, SALT, Kind.decision, swapped(sealed, blob + "A"))


def test_a_blob_that_is_no_text_is_refused() -> None:
    sealed = from_json(OURS.seal(SALT, Kind.override, told(override())))
    no_seals: tuple[object, ...] = (1, [], {}, "", "é", "=", "AAAA")
    for blob in no_seals:
        refused(OURS, SALT, Kind.override, sorted_json(sealed | {SEALED: blob}).decode())
    refused(OURS, SALT, Kind.override, '["sealed"]')
    refused(OURS, SALT, Kind.override, '{"sealed"')


def test_another_salt_or_another_master_is_refused_and_never_taken_for_erased() -> None:
    sealed = OURS.seal(SALT, Kind.decision, told(decision()))
    refused(OURS, OTHER, Kind.decision, sealed)
    refused(OURS, b"", Kind.decision, sealed)
    refused(Vault(b"x" * 32), SALT, Kind.decision, sealed)


def test_what_is_sealed_of_one_record_fits_no_other() -> None:
    """Another decision, another kind, or another supervisor's ruling on the same decision."""
    first, second = override("because"), override("never", supervisor="noor")
    elsewhere = override("because", decision_id="dec_2")
    blobs = {each: OURS.seal(SALT, Kind.override, told(each)) for each in (first, second, elsewhere)}
    for one in blobs:
        for other in blobs:
            if one is not other:
                refused(OURS, SALT, Kind.override, swapped(blobs[one], from_json(blobs[other])[SEALED]))
    refused(OURS, SALT, Kind.adopted_override, blobs[first])
    refused(OURS, SALT, Kind.decision, blobs[first])
    sealed = OURS.seal(SALT, Kind.decision, told(decision()))
    refused(OURS, SALT, Kind.adopted_decision, sealed)
    refused(OURS, SALT, Kind.decision, sealed.replace('"escalate"', '"approve"'))


@pytest.mark.parametrize("kind", [Kind.policy, Kind.model, Kind.key, Kind.checkpoint])
def test_a_kind_that_holds_nothing_private_passes(kind: Kind) -> None:
    for text in ('{"b":1, "a":2}', '{"sealed":"by nobody"}', "not JSON"):
        assert OURS.seal(SALT, kind, text) == text == OURS.open(SALT, kind, text) == OURS.open(None, kind, text)


def test_what_was_never_sealed_passes_though_it_speaks_of_seals() -> None:
    for value in (decision(), decision(proposal=decision().proposal.model_copy(update={"state": {"sealed": "lid"}}))):
        assert OURS.open(SALT, Kind.decision, told(value)) == told(value) == OURS.open(None, Kind.decision, told(value))


def test_a_record_is_sealed_once_and_under_a_whole_salt() -> None:
    sealed = OURS.seal(SALT, Kind.override, told(override()))
    with pytest.raises(LedgerUnavailable, match="already"):
        OURS.seal(SALT, Kind.override, sealed)
    with pytest.raises(LedgerUnavailable, match="32 bytes"):
        OURS.seal(b"", Kind.override, told(override()))


def test_what_an_older_decision_lacks_is_not_asked_for() -> None:
    older = from_json(told(decision()))
    for name in ("futures", "approvals", "redacted", "supersedes"):
        del older[name]
    sealed = OURS.seal(SALT, Kind.adopted_decision, text := sorted_json(older).decode())
    assert OURS.open(SALT, Kind.adopted_decision, sealed) == text
    Decision.model_validate_json(OURS.open(None, Kind.adopted_decision, sealed))


def test_salts_come_from_the_chance_that_was_handed_in() -> None:
    drawn = iter([b"1" * 32, b"2" * 32])
    vault = Vault(b"o" * 32, lambda count: next(drawn))
    assert (vault.fresh(), vault.fresh()) == (b"1" * 32, b"2" * 32)
    assert len(OURS.fresh()) == 32 and OURS.fresh() != OURS.fresh()


def test_sealing_a_long_decision_costs_about_what_writing_it_does(
    record_property: Callable[[str, object], None],
) -> None:
    """20 kB sealed, over the same written as canonical JSON: reported, and held to ten times what is usual."""
    long = decision(proposal=decision().proposal.model_copy(update={"state": {"note": ["word " * 100] * 40}}))
    text = told(long)

    def took(act: Callable[[], object]) -> float:
        def once() -> float:
            began = perf_counter()
            act()
            return perf_counter() - began

        return median(once() for _ in range(50))

    sealed = OURS.seal(SALT, Kind.decision, text)
    seal, open_ = (
        took(lambda: OURS.seal(SALT, Kind.decision, text)),
        took(lambda: OURS.open(SALT, Kind.decision, sealed)),
    )
    write = took(lambda: told(long))
    report = (
        f"{len(text)} characters: sealed in {seal / write:.1f}, opened in {open_ / write:.1f} times what writing takes"
    )
    record_property("sealing", report)
    print(report, f"({write * 1e6:.0f} µs)")
    assert seal < 30 * write and open_ < 30 * write


# the master secret


def test_the_master_is_made_once_and_read_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here" / "master"
    made = master(path)
    assert len(made) == 32 and path.read_bytes() == made == master(path, lambda count: b"other" * 10)
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["master"], "nothing half-made is left"


@pytest.mark.parametrize("held", [b"", b"short", b"x" * 31, b"x" * 33, b"x" * 32 + b"\n"])
def test_a_file_of_another_length_is_no_master(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "master"
    path.write_bytes(held)
    path.chmod(0o600)
    with pytest.raises(BadMaster, match="32 bytes"):
        master(path)
    assert path.read_bytes() == held


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_master_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master"
    master(path)
    path.chmod(mode)
    with pytest.raises(BadSigningKeys, match="open to others"):
        master(path)


def test_a_master_that_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadMaster):
        master(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadMaster):
        master(tmp_path / "file" / "master")


def test_many_who_start_at_once_have_one_master(tmp_path: Path) -> None:
    path, found = tmp_path / "master", list[bytes]()
    crowd = [Thread(target=lambda: found.append(master(path))) for _ in range(16)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert len(found) == 16 and len(set(found)) == 1
    assert os.listdir(tmp_path) == ["master"]


def test_the_fingerprint_tells_masters_apart_and_is_the_same_for_one() -> None:
    assert Vault(b"o" * 32).fingerprint == OURS.fingerprint != Vault(b"x" * 32).fingerprint
    assert len(OURS.fingerprint) == 16 and int(OURS.fingerprint, 16)
    with pytest.raises(BadMaster, match="32 bytes"):
        Vault(b"short")
