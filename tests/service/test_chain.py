"""Nothing is changed, dropped, put in or cut off in the audit chain without being found, at the place where it was done."""

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from service.decisions.audit import export, verify_export, verify_file
from service.decisions.chain import GENESIS, Broken, Checkpoint, Draft, Event, Head, Kind, Sealer, extend, link, verify
from service.decisions.sqlite import SqliteLedger
from service.vocabulary.proposal import HOUSE

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OURS = Sealer(Ed25519PrivateKey.from_private_bytes(b"o" * 32), every=3)
THEIRS = Sealer(Ed25519PrivateKey.from_private_bytes(b"t" * 32), every=3)

DRAFTS = st.builds(
    Draft,
    st.datetimes(timezones=st.just(UTC)),
    st.text(max_size=8),
    st.sampled_from([kind for kind in Kind if kind is not Kind.checkpoint]),
    st.text(max_size=12),
    st.text(max_size=40),
)
HISTORIES = st.lists(DRAFTS, max_size=9)
KEYS = st.sampled_from([(), (OURS.public,)])


def draft(n: int, kind: Kind = Kind.decision) -> Draft:
    return Draft(NOON + timedelta(minutes=n), "house", kind, f"dec_{n}", f'{{"n":{n}}}')


def history(count: int, sealer: Sealer | None = None) -> list[Event]:
    return list(extend(Head(), [draft(n) for n in range(count)], sealer))


def head(events: list[Event]) -> Head:
    return Head(events[-1].seq, events[-1].hash) if events else Head()


def exported(drafts: list[Draft]) -> list[bytes]:
    events = list(extend(Head(), drafts, OURS))
    return [event.line() + b"\n" for event in events] + [OURS.seal(head(events), NOON).line() + b"\n"]


def _split(told: bytes) -> list[bytes]:
    parts = told.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def touched(before: list[bytes], after: bytes) -> int:
    """The first line, from 1, that is not as it was."""
    now = _split(after)
    return next((n for n, line in enumerate(before, 1) if now[n - 1 : n] != [line]), len(before) + 1)


def found(lines: list[bytes], mutated: bytes, trusted: tuple[str, ...]) -> None:
    broken = verify_export(_split(mutated), trusted)
    assert isinstance(broken, Broken) and broken.why
    assert 1 <= broken.seq <= touched(lines, mutated)


@given(HISTORIES, KEYS)
def test_every_history_as_it_was_written_passes(drafts: list[Draft], trusted: tuple[str, ...]) -> None:
    lines = exported(drafts)
    closing = verify_export(lines, trusted)
    assert isinstance(closing, Checkpoint) and closing.seq == len(lines) - 1


@settings(max_examples=400)
@given(HISTORIES, KEYS, st.data())
def test_a_bit_flipped_anywhere_is_found_no_later_than_its_line(
    drafts: list[Draft], trusted: tuple[str, ...], data: st.DataObject
) -> None:
    lines = exported(drafts)
    told = bytearray(b"".join(lines))
    told[data.draw(st.integers(0, len(told) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found(lines, bytes(told), trusted)


def test_every_single_bit_of_a_small_export_counts() -> None:
    lines = exported([draft(0), draft(1, Kind.override)])
    told = b"".join(lines)
    for bit in range(8 * len(told)):
        flipped = bytearray(told)
        flipped[bit // 8] ^= 1 << bit % 8
        found(lines, bytes(flipped), ())


@settings(max_examples=200)
@given(HISTORIES, KEYS, st.data())
def test_a_line_dropped_doubled_or_moved_is_found(
    drafts: list[Draft], trusted: tuple[str, ...], data: st.DataObject
) -> None:
    lines = exported(drafts)
    place, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    dropped = [*lines[:place], *lines[place + 1 :]]
    for changed in (
        dropped,
        [*dropped[:other], lines[place], *dropped[other:]],
        [*lines[:other], lines[place], *lines[other:]],
    ):
        if changed != lines:
            found(lines, b"".join(changed), trusted)


@settings(max_examples=200)
@given(HISTORIES, KEYS, st.data())
def test_a_file_cut_anywhere_is_found(drafts: list[Draft], trusted: tuple[str, ...], data: st.DataObject) -> None:
    lines = exported(drafts)
    told = b"".join(lines)
    found(lines, told[: data.draw(st.integers(0, len(told) - 1))], trusted)


@settings(max_examples=200)
@given(st.lists(DRAFTS, min_size=1, max_size=9), st.data())
def test_a_history_rewritten_with_fitting_hashes_is_found_by_the_keys_it_lacks(
    drafts: list[Draft], data: st.DataObject
) -> None:
    """Who may write the file can compute every hash anew, but signs with no key that is trusted."""
    place = data.draw(st.integers(0, len(drafts) - 1))
    forged = [*drafts[:place], draft(99), *drafts[place + 1 :]]
    events = list(extend(Head(), forged, THEIRS))
    lines = [event.line() + b"\n" for event in events] + [THEIRS.seal(head(events), NOON).line() + b"\n"]
    assert isinstance(verify_export(lines), Checkpoint), "no key named: sound, but by whom?"
    assert isinstance(verify_export(lines, (OURS.public,)), Broken)


def test_the_first_event_follows_nothing_and_says_so() -> None:
    first, second = history(2)
    assert (first.seq, first.previous) == (1, GENESIS) and second.previous == first.hash
    assert verify([first, second]) is None and verify([]) is None
    assert verify([second]) == Broken(1, "event 2 stands in its place")


def test_no_two_events_share_an_encoding() -> None:
    """What stands at the end of one field cannot be read as the beginning of the next."""
    told = [("a", "bc"), ("ab", "c"), ("abc", ""), ('a","b', "c")]
    hashes = {link(Head(), Draft(NOON, tenant, Kind.policy, subject, "{}")).hash for tenant, subject in told}
    assert len(hashes) == len(told)


def test_the_same_moment_has_one_spelling() -> None:
    west = draft(0).at.astimezone(timezone(timedelta(hours=-7)))
    assert link(Head(), draft(0)) == link(Head(), Draft(west, "house", Kind.decision, "dec_0", '{"n":0}'))


def test_a_cut_at_the_end_is_found_by_a_checkpoint_alone() -> None:
    events = history(5)
    sealed = OURS.seal(head(events), NOON)
    assert verify(events[:3]) is None
    assert verify(events[:3], [sealed]) == Broken(4, "missing: a checkpoint was signed over 5 events")
    assert verify([], [sealed]) == Broken(1, "missing: a checkpoint was signed over 5 events")
    assert verify(events, [sealed]) is None


def test_a_checkpoint_over_nothing_vouches_for_nothing() -> None:
    assert verify(history(2), [OURS.seal(Head(), NOON)]) is None
    assert verify([], [OURS.seal(Head(0, "1" * 64), NOON)]) == Broken(1, "its checkpoint was signed over another chain")


def test_every_third_event_is_followed_by_a_signed_one() -> None:
    events = history(6, OURS)
    assert [event.seq for event in events if event.kind is Kind.checkpoint] == [4, 7]
    assert verify(events, trusted=(OURS.public,)) is None
    assert verify(events, trusted=(THEIRS.public,)) == Broken(
        4, "its checkpoint is signed with a key that is not trusted"
    )


def test_an_export_made_before_is_part_of_the_next_or_the_ledger_was_cut(tmp_path: Path) -> None:
    old, new, cut = tmp_path / "old.jsonl", tmp_path / "new.jsonl", tmp_path / "cut.jsonl"
    old.write_bytes(b"".join(exported([draft(n) for n in range(5)])))
    new.write_bytes(b"".join(exported([draft(n) for n in range(8)])))
    cut.write_bytes(b"".join(exported([draft(n) for n in range(2)])))
    assert isinstance(verify_file(new, (OURS.public,), since=old), Checkpoint)
    assert verify_file(cut, (), since=old) == Broken(3, "missing: a checkpoint was signed over 7 events")
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="does not end with a checkpoint"):
        verify_file(new, (), since=tmp_path / "empty")


# A ledger's own file, in a vandal's hands.


async def written(path: Path, vandal: str = "") -> Checkpoint | Broken:
    from tests.conformance.test_ledgers import decision, override

    ledger = SqliteLedger(path, sealer=OURS)
    for n in range(4):
        await ledger.append(decision(f"dec_{n}"), HOUSE)
    await ledger.override(override("dec_1"), HOUSE)
    await ledger.aclose()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA foreign_keys=OFF")
        db.executescript(vandal)
    db.close()
    again = SqliteLedger(path, sealer=OURS)
    told: list[bytes] = []
    try:
        ended = await export(again, OURS, NOON, told.append)
    finally:
        await again.aclose()
    if isinstance(ended, Checkpoint):
        assert verify_export(told, (OURS.public,)) == ended
    return ended


async def test_a_ledger_exports_what_verifies(tmp_path: Path) -> None:
    ended = await written(tmp_path / "ledger.sqlite")
    assert isinstance(ended, Checkpoint) and ended.seq == 7


@pytest.mark.parametrize(
    ("vandal", "seq"),
    [
        ("UPDATE decisions SET decision = replace(decision, 'escalate', 'approve') WHERE id = 'dec_2'", 3),
        ("UPDATE events SET body = replace(body, 'approved', 'denied') WHERE seq = 6", 6),
        ("UPDATE events SET body = NULL WHERE kind = 'override'", 6),
        ("DELETE FROM decisions WHERE id = 'dec_0'", 1),
        ("DELETE FROM events WHERE seq = 2", 2),
        ("UPDATE events SET tenant = 'another' WHERE seq = 5", 5),
        ("UPDATE events SET seq = 9 WHERE seq = 1", 1),
    ],
)
async def test_a_row_changed_behind_the_ledgers_back_is_named_and_not_signed(
    tmp_path: Path, vandal: str, seq: int
) -> None:
    ended = await written(tmp_path / "ledger.sqlite", vandal)
    assert isinstance(ended, Broken) and ended.seq == seq


async def test_a_row_that_no_event_speaks_of_is_not_served(tmp_path: Path) -> None:
    from tests.conformance.test_ledgers import decision

    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    await ledger.append(decision(), HOUSE)
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO decisions SELECT 'dec_2', at, domain, ruling, decision, salt FROM decisions")
    db.close()
    assert await ledger.find("dec_1", HOUSE) == decision()
    assert await ledger.find("dec_2", HOUSE) is None
    await ledger.aclose()
