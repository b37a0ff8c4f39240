"""A permit is good for exactly what was judged, here, now and once; to the service and to an executor's copy alike.

`python -m tests.service.test_permit` writes the vectors anew.
"""

import ast
import hmac
import importlib.util
import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import jwt
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from service.api.schemas import EvaluationRequest
from service.decisions.canonical import NotCanonical, base64url, canonical, fingerprint, read
from service.decisions.permit import (
    LONGEST_S,
    TYPE,
    Bound,
    Claims,
    Expected,
    Flaw,
    Issuer,
    PermitKind,
    PermitRefused,
    Redeemed,
    bind,
    sign,
    verify,
)
from service.decisions.signing import KEPT_FOR, BadSigningKeys, KeyRing, PublicKeys, SigningKey
from service.vocabulary.decision import Asked, Decision, Mode, ModelStory, Override, OverrideRuling
from service.vocabulary.proposal import Action, Asker
from service.vocabulary.verdict import Basis, Explanation, Reason, Ruling

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "permits" / "vectors.json"
COPY = ROOT / "deploy" / "executor" / "verify_permit.py"

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW = int(NOON.timestamp())
KEY = SigningKey(NOON, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OLDER = SigningKey(NOON, Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))
STRANGER = SigningKey(NOON, Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96))))
KEYS = PublicKeys(keys=(OLDER.public, KEY.public))
EXECUTOR = {"iss": "https://premortem.example", "aud": "executor", "domain": "safety", "agent": "site-agent"}
ACTION: dict[str, Any] = {
    "kind": "lift",
    "text": "Lift 10 t of café chairs",
    "arguments": {"load_t": 10, "crane": "C2"},
}
STATE: dict[str, Any] = {
    "site_id": "S-7",
    "environmental_conditions": {"wind_mph": 12.5, "gust_mph": 15},
    "active_hazards": [],
}
DECISION = "dec_0001"


def text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# Vectors: what an executor is shown, and what it owes.


def claims(action: Any = ACTION, state: Any = STATE, kind: str = "approval", **changed: Any) -> dict[str, Any]:
    told = {"arguments": {}, "text": ""} | action
    return {
        **EXECUTOR,
        "sub": DECISION,
        "act": fingerprint(told),
        "state": fingerprint(state),
        "kind": kind,
        "jti": f"{DECISION}.{kind}",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + LONGEST_S[PermitKind(kind)],
    } | changed


def forged(
    payload: dict[str, Any] | str,
    key: SigningKey = KEY,
    header: dict[str, Any] | str | None = None,
    seal: Callable[[bytes], bytes] | None = None,
) -> str:
    """A token as anyone who holds the key could write it, sound or not."""
    told: Any = {"alg": "EdDSA", "kid": key.public.kid, "typ": TYPE} if header is None else header
    parts = [part if isinstance(part, str) else canonical(part).decode() for part in (told, payload)]
    signed = ".".join(base64url(part.encode()) for part in parts)
    return f"{signed}.{base64url((seal or key.private.sign)(signed.encode()))}"


def case(name: str, answer: str, token: str | None = None, **changed: Any) -> dict[str, Any]:
    """As it should be, but for what is changed. `before`: tokens that were shown, and accepted, earlier."""
    shown = {
        "name": name,
        "answer": answer,
        "token": forged(claims()) if token is None else token,
        "action": text(ACTION),
        "state": text(STATE),
        "executor": EXECUTOR,
        "now": NOW + 1,
        "before": [],
    }
    return shown | changed


def acting(arguments: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return ACTION | {"arguments": arguments} | changed


def accepted() -> Iterator[dict[str, Any]]:
    override = forged(claims(kind="override"))
    yield case("an approval", "accepted")
    yield case("an override in its last second", "accepted", override, now=NOW + 299)
    yield case("an approval in its last second", "accepted", now=NOW + 59)
    yield case("an executor whose clock is five seconds behind", "accepted", now=NOW - 5)
    yield case("a key that signs no more and is still published", "accepted", forged(claims(), OLDER))
    yield case("members in another order, with blanks", "accepted", action=json.dumps(ACTION, indent=3, sort_keys=True))
    yield case("10.0 is 10", "accepted", action=text(ACTION).replace('"load_t": 10', '"load_t": 10.0'))
    yield case("1e1 is 10", "accepted", action=text(ACTION).replace('"load_t": 10', '"load_t": 1e1'))
    yield case(
        "-0 is 0", "accepted", forged(claims(acting({"n": 0}))), action=text(acting({"n": 0})).replace("0}", "-0}")
    )
    yield case("an escape is the character", "accepted", action=json.dumps(ACTION))
    bare = forged(claims({"kind": "inspect"}))
    yield case("text and arguments left out", "accepted", bare, action='{"kind": "inspect"}')
    full = '{"kind": "inspect", "text": "", "arguments": {}}'
    yield case("text and arguments sent empty are the same as left out", "accepted", bare, action=full)
    tiny = acting({"dose_g": 0.00001, "rate": 1e-7})
    yield case("small numbers in any spelling", "accepted", forged(claims(tiny)), action=text(tiny))
    largest = acting({"id": 2**53 - 1})
    yield case("the largest integer", "accepted", forged(claims(largest)), action=text(largest))
    later = forged(claims(jti="dec_0000.approval"))
    yield case("another permit was used before", "accepted", before=[later])
    yield case("an override after an approval of the same decision", "accepted", override, before=[forged(claims())])


def strangers() -> Iterator[dict[str, Any]]:
    """Not this executor, agent, action or state."""
    for name, value in {"iss": "https://else.example", "aud": "other", "domain": "triage", "agent": "else"}.items():
        yield case(f"a permit with another {name}", f"wrong_{name}", forged(claims(**{name: value})))
        yield case(f"an executor with another {name}", f"wrong_{name}", executor=EXECUTOR | {name: value})
    yield case("the hash of the state as that of the action", "wrong_act", forged(claims(act=fingerprint(STATE))))
    for name, action in {
        "another argument": acting({"load_t": 11, "crane": "C2"}),
        "an argument more": acting({"load_t": 10, "crane": "C2", "unattended": True}),
        "an argument less": acting({"load_t": 10}),
        "a number as a string": acting({"load_t": "10", "crane": "C2"}),
        "true for 1": acting({"load_t": True, "crane": "C2"}),
        "another kind": ACTION | {"kind": "drop"},
        "a kind in capitals": ACTION | {"kind": "Lift"},
        "other words": ACTION | {"text": "Lift 10 t"},
        "a decomposed é: Unicode is not normalised": ACTION | {"text": "Lift 10 t of cafe\u0301 chairs"},
        "a blank more": ACTION | {"text": ACTION["text"] + " "},
    }.items():
        yield case(f"an action with {name}", "wrong_act", action=text(action))
    yield case("1 for true", "wrong_act", forged(claims(acting({"n": True}))), action=text(acting({"n": 1})))
    yield case("a state that has changed", "wrong_state", state=text(STATE | {"active_hazards": ["wind"]}))
    yield case("a state with a member more", "wrong_state", state=text(STATE | {"crew": None}))
    yield case("a list in another order", "wrong_state", forged(claims(state={"a": [1, 2]})), state='{"a": [2, 1]}')


def unreadable() -> Iterator[dict[str, Any]]:
    """JSON that two readers could read differently is refused, whatever the permit says."""
    twice = '{"kind": "drop", "kind": "lift", ' + text(ACTION)[len('{"kind": "lift", ') :]
    yield case("an action with a key that is there twice", "malformed", action=twice)
    hidden = twice.replace('"kind": "drop"', '"\\u006bind": "drop"')
    yield case("... once of them escaped", "malformed", action=hidden)
    deep = text(ACTION).replace('"load_t": 10', '"load_t": 99, "load_t": 10')
    yield case("an argument that is there twice", "malformed", action=deep)
    last = text(ACTION)[:-1] + ', "arguments": {"load_t": 99, "crane": "C2"}}'
    yield case("a last member that is there twice, once as it was judged", "malformed", action=last)
    yield case("a state with a key that is there twice", "malformed", state='{"site_id": "S-8", ' + text(STATE)[1:])
    for number in ("NaN", "Infinity", "-Infinity", "1e400", "9007199254740992", "9007199254740993", "1e20"):
        action = text(ACTION).replace('"load_t": 10', f'"load_t": {number}')
        yield case(f"{number} is no number to all readers", "malformed", action=action)
    lone = text(ACTION).replace("café", "\\ud83d")
    yield case("a lone surrogate", "malformed", action=lone)
    yield case("a member that no action has", "malformed", action=text(ACTION | {"then": "drop"}))
    yield case(
        "null is not left out",
        "malformed",
        forged(claims({"kind": "inspect"})),
        action='{"kind": "inspect", "text": null}',
    )
    yield case("an action that is no JSON", "malformed", action=text(ACTION) + "}")


def untimely() -> Iterator[dict[str, Any]]:
    override = forged(claims(kind="override"))
    yield case("an approval at its end", "expired", now=NOW + 60)
    yield case("an approval a day later", "expired", now=NOW + 86_400)
    yield case("an override at its end", "expired", override, now=NOW + 300)
    yield case("an executor whose clock is six seconds behind", "not_yet_valid", now=NOW - 6)
    yield case("an approval that begins later", "not_yet_valid", forged(claims(nbf=NOW + 30)))
    yield case("an approval of 61 s", "wrong_span", forged(claims(exp=NOW + 61)))
    yield case("an approval as long as an override", "wrong_span", forged(claims(exp=NOW + 300)))
    yield case("an override of 301 s", "wrong_span", forged(claims(kind="override", exp=NOW + 301)))
    yield case("a permit that begins before it was issued", "wrong_span", forged(claims(nbf=NOW - 30)))
    yield case(
        "a permit of a kind that there is not", "malformed", forged(claims(kind="approval") | {"kind": "waiver"})
    )
    yield case("the same permit again", "used", before=[forged(claims())])
    yield case("the same permit under another key", "used", before=[forged(claims(), OLDER)])


def unsigned() -> Iterator[dict[str, Any]]:
    good, kid = forged(claims()), KEY.public.kid
    head, body, signature = good.split(".")
    header = {"alg": "EdDSA", "kid": kid, "typ": TYPE}
    jwk = STRANGER.public.model_dump()
    yield case("a key that nobody published", "unknown_key", forged(claims(), STRANGER))
    yield case("a stranger's signature under a published kid", "bad_signature", forged(claims(), STRANGER, header))
    yield case("the older key's signature under the newer kid", "bad_signature", forged(claims(), OLDER, header))
    yield case("alg none", "wrong_header", forged(claims(), header=header | {"alg": "none"}, seal=lambda _: b""))
    public = KEY.private.public_key().public_bytes_raw()
    mac = forged(claims(), header=header | {"alg": "HS256"}, seal=lambda told: hmac.digest(public, told, "sha256"))
    yield case("alg HS256 with the public key as the secret", "wrong_header", mac)
    yield case("alg HS256 over an EdDSA signature", "wrong_header", forged(claims(), header=header | {"alg": "HS256"}))
    yield case("alg Ed25519", "wrong_header", forged(claims(), header=header | {"alg": "Ed25519"}))
    yield case("typ JWT", "wrong_header", forged(claims(), header=header | {"typ": "JWT"}))
    yield case("no typ", "wrong_header", forged(claims(), header={"alg": "EdDSA", "kid": kid}))
    yield case("no kid", "wrong_header", forged(claims(), header={"alg": "EdDSA", "typ": TYPE}))
    yield case("a header that brings its own key", "wrong_header", forged(claims(), STRANGER, header | {"jwk": jwk}))
    yield case(
        "a critical extension", "wrong_header", forged(claims(), header=header | {"crit": ["b64"], "b64": False})
    )
    twice = '{"alg":"none",' + text(header)[1:]
    yield case("a header with alg twice", "malformed", forged(claims(), header=twice))
    changed = base64url(canonical(claims(agent="else")))
    yield case(
        "another payload", "bad_signature", f"{head}.{changed}.{signature}", executor=EXECUTOR | {"agent": "else"}
    )
    other = forged(claims(kind="override")).split(".")[2]
    yield case("the signature of another permit", "bad_signature", f"{head}.{body}.{other}")
    spare = {"A": "B", "Q": "R", "g": "h", "w": "x"}[signature[-1]]
    yield case("a signature spelt otherwise: its spare bits", "malformed", good[:-1] + spare)
    yield case("a signature spelt otherwise: padded", "malformed", good + "==")
    yield case("a line feed behind the token", "malformed", good + "\n")
    yield case("a stray character in the token", "malformed", f"{head}.{body}.!{signature}")
    yield case("no signature", "bad_signature", f"{head}.{body}.")
    yield case("two parts", "malformed", f"{head}.{body}")
    yield case("no token", "malformed", "")
    without = {name: value for name, value in claims().items() if name != "jti"}
    yield case("a claim that is missing", "malformed", forged(without))
    yield case("a claim too many", "malformed", forged(claims() | {"scope": "all"}))
    yield case("a claim that is there twice", "malformed", forged('{"aud":"other",' + text(claims())[1:]))
    yield case("a time in words", "malformed", forged(claims(exp="tomorrow")))
    yield case("a time as a string of digits", "malformed", forged(claims(exp=str(NOW + 60))))
    yield case("an audience in a list", "malformed", forged(claims(aud=["executor", "other"])))


def cases() -> list[dict[str, Any]]:
    return [*accepted(), *strangers(), *unreadable(), *untimely(), *unsigned()]


def spellings() -> list[dict[str, Any]]:
    """What JSON text hashes to; None: it is refused."""
    told = [
        ("10 and 10.0 are one number", ["10", "10.0", "1e1", "1.0E+1"]),
        ("zero has no sign", ["0", "-0", "-0.0", "0e5"]),
        ("as short as a double allows", ["0.1", "0.1000000000000000055511151231257827"]),
        ("plain down to 0.000001", ["0.000001", "1e-6"]),
        ("with an exponent below", ["1e-7", "0.0000001"]),
        ("the smallest number", ["5e-324"]),
        (
            "members are sorted, blanks are dropped",
            ['{"a":1,"b":[true,null]}', ' { "b" : [ true , null ] , "a" : 1 } '],
        ),
        ("by UTF-16, so that an emoji comes before U+FB33", ['{"\\ufb33":1,"\\ud83d\\ude00":2}', '{"😀":2,"דּ":1}']),
        ("escapes are short", ['"\\u000a\\u000F\\u0022\\u005c\\u002f\\u007f\\u00e9"', '"\\n\\u000f\\"\\\\/\x7fé"']),
        ("composed (NFC)", ['"é"', '"\\u00e9"']),
        ("decomposed (NFD)", ['"e\u0301"', '"e\\u0301"']),
        ("a ligature stays one", ['"\ufb01"']),
    ]
    refused = [
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":2}',
        "NaN",
        "[Infinity]",
        "1e400",
        "9007199254740992",
        "1e300",
        '"\\ud800"',
    ]
    return [
        {
            "name": name,
            "json": spelling,
            "canonical": canonical(read(spelling)).decode(),
            "hash": fingerprint(read(spelling)),
        }
        for name, texts in told
        for spelling in texts
    ] + [{"name": "refused", "json": spelling, "canonical": None, "hash": None} for spelling in refused]


def vectors() -> str:
    told = {
        "note": "What an executor owes each permit. `answer` is the service's word; an executor may say less, never accept more.",
        "test_only_private_keys": {"signs": bytes(range(32)).hex(), "signed before": bytes(range(32, 64)).hex()},
        "leeway_s": 5,
        "jwks": KEYS.model_dump(),
        "permits": cases(),
        "spellings": spellings(),
    }
    return json.dumps(told, indent=1) + "\n"


# The two who verify.


@dataclass(frozen=True)
class Copy:
    """The verifier that executors copy."""

    module: ModuleType

    def answer(self, shown: dict[str, Any]) -> str:
        self.module.USED.clear()
        for token in shown["before"]:
            assert self._answer(shown | {"token": token, "now": NOW + 1}) == "accepted"
        return self._answer(shown)

    def _answer(self, shown: dict[str, Any]) -> str:
        try:
            action, state = self.module.verify(
                *(shown["token"], shown["action"], shown["state"]),
                **shown["executor"],
                keys=KEYS.model_dump(),
                redeem=self.module.once,
                now=lambda: shown["now"],
            )
        except PermissionError as error:
            return str(error)
        except Exception as error:
            return type(error).__name__
        assert action == {"text": "", "arguments": {}} | json.loads(shown["action"])
        assert state == json.loads(shown["state"])
        return "accepted"


@dataclass(frozen=True)
class Ours:
    """The service's own."""

    def answer(self, shown: dict[str, Any]) -> str:
        redeemed = Redeemed()
        try:
            for token in shown["before"]:
                redeemed = redeemed.use(self._claims(shown | {"token": token, "now": NOW + 1}), NOON)
            redeemed.use(self._claims(shown), datetime.fromtimestamp(shown["now"], UTC))
        except PermitRefused as refused:
            return refused.flaw
        except (NotCanonical, ValidationError):
            return Flaw.malformed
        return "accepted"

    def _claims(self, shown: dict[str, Any]) -> Claims:
        state, due = read(shown["state"]), shown["executor"]
        bound = bind(due["agent"], Action.model_validate(read(shown["action"])), state)
        expected = Expected(due["iss"], due["aud"], due["domain"], bound)
        return verify(shown["token"], KEYS, expected, datetime.fromtimestamp(shown["now"], UTC))


@pytest.fixture(scope="module")
def copied() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_permit", COPY)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["STARTED"] = 0.0
    return module


def test_the_vectors_are_what_this_file_makes() -> None:
    assert VECTORS.read_text() == vectors()
    assert len({shown["name"] for shown in cases()}) == len(cases()) >= 25


@pytest.mark.parametrize("shown", cases(), ids=lambda shown: shown["name"])
def test_the_service_answers_as_the_vectors_say(shown: dict[str, Any]) -> None:
    assert Ours().answer(shown) == shown["answer"]


@pytest.mark.parametrize("shown", cases(), ids=lambda shown: shown["name"])
def test_the_copy_accepts_the_same_and_gives_no_other_reason(shown: dict[str, Any], copied: ModuleType) -> None:
    answer, due = Copy(copied).answer(shown), shown["answer"]
    assert (answer == "accepted") is (due == "accepted"), answer
    if answer in set(Flaw) and due != Flaw.malformed:
        assert answer == due


@pytest.mark.parametrize("told", spellings(), ids=lambda told: f"{told['name']}: {told['json']}")
def test_each_spelling_has_its_hash_or_none(told: dict[str, Any], copied: ModuleType) -> None:
    if told["canonical"] is None:
        with pytest.raises(NotCanonical):
            fingerprint(read(told["json"]))
    else:
        assert fingerprint(read(told["json"])) == told["hash"]
        assert copied.canonical(copied.read(told["json"])) == told["canonical"]


def test_what_is_signed_is_what_the_vectors_show() -> None:
    assert sign(Claims.model_validate(claims() | {"kind": PermitKind.approval}), KEY) == forged(claims())


def test_the_copy_is_under_sixty_lines_and_needs_cryptography_alone() -> None:
    tree = ast.parse(COPY.read_text())
    roots = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    roots |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert roots == {"base64", "cryptography", "decimal", "hashlib", "json", "time"}
    assert COPY.read_text().count("\n") < 60


def test_of_many_threads_one_may_act(copied: ModuleType) -> None:
    copied.USED.clear()
    ready, won = threading.Barrier(8), []

    def rush() -> None:
        told = claims()
        ready.wait()
        won.append(copied.once(told))

    threads = [threading.Thread(target=rush) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_memory_forgets_only_what_has_run_out(copied: ModuleType) -> None:
    copied.USED.clear()
    assert copied.once(claims())
    assert copied.once(claims(jti="b", iat=NOW + 600, exp=NOW + 660)) and not copied.once(claims())
    assert copied.once(claims(jti="c", iat=NOW + 900, exp=NOW + 960)) and set(copied.USED) == {"b", "c"}


def test_a_restarted_executor_refuses_what_it_may_have_acted_on(
    copied: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.USED.clear()
    monkeypatch.setattr(copied, "STARTED", NOW + 0.5)
    assert Copy(copied).answer(case("an approval", "")) == "used"


def test_a_memory_that_answers_with_a_promise_is_no_yes(copied: ModuleType) -> None:
    """An un-awaited coroutine is true in a condition."""
    with pytest.raises(PermissionError, match="used"):
        copied.verify(
            *(forged(claims()), text(ACTION), text(STATE)),
            **EXECUTOR,
            keys=KEYS.model_dump(),
            redeem=lambda _: object(),
            now=lambda: NOW,
        )


# Properties.

NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2.0**53) + 1, 2.0**53 - 1)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text()
VALUES = st.recursive(SCALARS, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=20)
FEW = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, -0.0, "", "1", "true", "é", "e\u0301"]),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), each, max_size=2),
    max_leaves=3,
)


def shuffled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, dice) for item in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], dice) for key in dice.sample(sorted(value), len(value))}
    return value


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@given(VALUES)
def test_canonical_json_is_what_another_library_makes_of_it(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(value=VALUES)
def test_the_copy_hashes_as_the_service_does(value: Any, copied: ModuleType) -> None:
    assert copied.canonical(copied.read(json.dumps(value))).encode() == canonical(read(json.dumps(value)))


@given(VALUES, st.integers(0, 2**32))
def test_canonical_json_reads_as_itself_in_whatever_order_it_was_written(value: Any, seed: int) -> None:
    told = canonical(value)
    assert canonical(read(told)) == told == canonical(shuffled(value, random.Random(seed)))
    assert same(read(told), value)


@given(FEW, FEW)
def test_hashes_are_equal_for_equal_values_alone(one: Any, other: Any) -> None:
    assert (fingerprint(one) == fingerprint(other)) is same(one, other)


@given(
    st.dictionaries(st.text(max_size=20), VALUES, max_size=4), st.dictionaries(st.text(max_size=20), VALUES, max_size=4)
)
def test_what_the_api_reads_hashes_as_what_was_sent(state: Any, arguments: Any) -> None:
    sent = json.dumps({"domain": "safety", "state": state, "action": {"kind": "lift", "arguments": arguments}})
    for body in (EvaluationRequest.model_validate_json(sent), EvaluationRequest.model_validate(json.loads(sent))):
        bound = bind("site-agent", body.action, body.state)
        assert bound.state == fingerprint(read(json.dumps(state)))
        assert bound.act == fingerprint(read(json.dumps({"kind": "lift", "text": "", "arguments": arguments})))


@given(at=st.integers(0, 10_000), put=st.characters(codec="utf-8"))
def test_a_token_with_any_character_changed_put_in_or_cut_off_is_refused(at: int, put: str, copied: ModuleType) -> None:
    good = forged(claims())
    at %= len(good)
    for bad in (good[:at] + put + good[at + 1 :], good[:at] + put + good[at:], good[:at]):
        if bad != good:
            assert Ours().answer(case("changed", "", bad)) in set(Flaw)
            assert Copy(copied).answer(case("changed", "", bad)) != "accepted"


def test_every_last_character_but_one_is_refused(copied: ModuleType) -> None:
    """Four spare bits: sixteen spellings of one signature."""
    good = forged(claims())
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    taken = [last for last in alphabet if Ours().answer(case("", "", good[:-1] + last)) == "accepted"]
    taken += [last for last in alphabet if Copy(copied).answer(case("", "", good[:-1] + last)) == "accepted"]
    assert taken == [good[-1]] * 2


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"id": 2**53}]}, ("a", 1, "id")),
        ([float("nan")], (0,)),
        ({"a": float("inf")}, ("a",)),
        ({"a": {1: 2}}, ("a",)),
        ({"a": (1, 2)}, ("a",)),
    ],
)
def test_what_cannot_be_hashed_is_named(value: Any, where: tuple[object, ...]) -> None:
    with pytest.raises(NotCanonical) as raised:
        canonical(value)
    assert raised.value.path == where


def test_what_cannot_be_bound_is_named_in_the_request() -> None:
    told: dict[tuple[str, ...], tuple[Action, JsonValue]] = {
        ("action", "arguments", "id"): (Action(kind="lift", arguments={"id": 2**53}), {}),
        ("state", "crew"): (Action(kind="lift"), {"crew": 1e300}),
    }
    for at, (action, state) in told.items():
        with pytest.raises(NotCanonical) as raised:
            bind("site-agent", action, state)
        assert raised.value.path == at


@pytest.mark.parametrize("told", [b"\xff", "\ufeff{}", '{"a":1}{', "", "[" * 100_000, "1" * 5_000])
def test_what_is_no_json_is_refused(told: str | bytes) -> None:
    with pytest.raises(NotCanonical):
        canonical(read(told))


@pytest.mark.parametrize("told", ["NaN", "[Infinity]", '{"a":-Infinity}', "1e400", '{"a":{"b":1,"b":1}}'])
def test_what_two_readers_could_read_differently_is_not_read(told: str) -> None:
    with pytest.raises(NotCanonical):
        read(told)


# Another library.


def test_another_library_reads_our_permits() -> None:
    key = jwt.PyJWK.from_dict(KEY.public.model_dump())
    read_back = jwt.decode(
        forged(claims()),
        key,
        algorithms=["EdDSA"],
        audience=EXECUTOR["aud"],
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert read_back == claims()


def test_we_read_another_librarys_permits() -> None:
    headers = {"kid": KEY.public.kid, "typ": TYPE}
    token = jwt.encode(claims(), KEY.private, algorithm="EdDSA", headers=headers)
    assert Ours().answer(case("another's", "", token)) == "accepted"


def test_a_kid_is_the_thumbprint_of_rfc_8037() -> None:
    """Appendix A.3."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey(NOON, Ed25519PrivateKey.from_private_bytes(seed))
    assert key.public.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


# What is permitted.


def decision(ruling: Ruling, ruled: OverrideRuling | None = None) -> Decision:
    approved = ruling is Ruling.approve
    return Decision(
        decision_id=DECISION,
        at=NOON,
        domain="safety",
        ruling=ruling,
        reason=Reason.within_tolerance if approved else Reason.hard_rule,
        basis=Basis.simulated if approved else Basis.hard_rule,
        mode=Mode.normal,
        risk=None,
        rollouts=None,
        explanation=Explanation(""),
        override=None,
        overridden=None
        if ruled is None
        else Override(
            decision_id=DECISION, ruling=ruled, reason="seen it", supervisor="ann", at=NOON + timedelta(minutes=9)
        ),
        model=ModelStory(engine="", checkpoint="", codec="", policy="", anchors=""),
        proposal=Asked(state={}, action=Action.model_validate(ACTION), asker=Asker()),
        timing_ms={},
    )


def permitted(told: Decision) -> Claims | None:
    issuer = Issuer(EXECUTOR["iss"], EXECUTOR["aud"])
    return issuer.claims(told, bind("site-agent", Action.model_validate(ACTION), STATE))


def test_an_approval_permits_from_its_own_time_on() -> None:
    told = permitted(decision(Ruling.approve))
    assert told is not None and told.model_dump() == claims()


def test_an_override_permits_from_the_supervisors_word_on() -> None:
    told, ruled = permitted(decision(Ruling.escalate, OverrideRuling.approved)), NOW + 540
    assert told is not None
    assert told.model_dump() == claims(kind="override", iat=ruled, nbf=ruled, exp=ruled + 300)


@pytest.mark.parametrize("ruled", [None, OverrideRuling.denied])
def test_an_escalation_permits_nothing_until_it_is_overridden(ruled: OverrideRuling | None) -> None:
    assert permitted(decision(Ruling.escalate, ruled)) is None


def test_asked_again_a_decision_brings_the_same_permit() -> None:
    one, again = permitted(decision(Ruling.approve)), permitted(decision(Ruling.approve))
    assert one is not None and again is not None and sign(one, KEY) == sign(again, KEY)


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": NOW + 61},
        {"kind": PermitKind.override, "exp": NOW + 301},
        {"exp": NOW},
        {"exp": NOW - 1},
        {"nbf": NOW - 1},
        {"nbf": NOW + 60},
        {"agent": ""},
        {"aud": ""},
        {"jti": ""},
        {"scope": "all"},
    ],
    ids=str,
)
def test_an_illegal_permit_cannot_be_made(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Claims.model_validate(claims() | {"kind": PermitKind.approval} | changed)


def test_a_time_without_a_zone_is_no_moment() -> None:
    with pytest.raises(ValueError, match="zone"):
        permitted(decision(Ruling.approve).model_copy(update={"at": NOON.replace(tzinfo=None)}))


def test_a_permit_is_remembered_until_it_has_run_out_for_every_clock() -> None:
    told = Claims.model_validate(claims() | {"kind": PermitKind.approval})
    later = told.model_copy(update={"jti": "later"})
    used = Redeemed().use(told, NOON)
    assert set(used.use(later, NOON + timedelta(seconds=64)).until) == {told.jti, "later"}
    assert set(used.use(later, NOON + timedelta(seconds=65)).until) == {"later"}


# Keys.


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    seeds = count(7)
    return KeyRing(tmp_path / "permit-keys", lambda: Ed25519PrivateKey.from_private_bytes(bytes([next(seeds)] * 32)))


def test_the_first_start_makes_a_key_that_others_cannot_read(ring: KeyRing, tmp_path: Path) -> None:
    ring.open(NOON)
    ring.open(NOON + timedelta(days=1))
    (path,) = (tmp_path / "permit-keys").iterdir()
    assert path.name == "20261124T120000Z.pem"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "PRIVATE" not in repr(ring.newest()) and "Ed25519PrivateKey" not in repr(ring.newest())


def test_after_a_rotation_the_new_key_signs_and_the_old_one_stays_until_its_last_permit_is_over(ring: KeyRing) -> None:
    ring.open(NOON)
    old, rotated = ring.newest(), NOON + timedelta(days=30)
    running = KeyRing(ring._folder)
    new = ring.rotate(rotated)
    assert running.newest().public == new.public != old.public, "a running service signs with it at once"
    assert running.published(rotated + KEPT_FOR - timedelta(seconds=1)).keys == (old.public, new.public)
    assert running.published(rotated + KEPT_FOR).keys == (new.public,)
    assert KEPT_FOR.total_seconds() > 2 * max(LONGEST_S.values())


def test_a_permit_signed_before_a_rotation_holds_after_it(ring: KeyRing) -> None:
    ring.open(NOON)
    told = Claims.model_validate(claims() | {"kind": PermitKind.approval})
    token = sign(told, ring.newest())
    ring.rotate(NOON + timedelta(seconds=1))
    bound = Bound(agent=told.agent, act=told.act, state=told.state)
    expected = Expected(told.iss, told.aud, told.domain, bound)
    assert verify(token, ring.published(NOON + timedelta(seconds=30)), expected, NOON + timedelta(seconds=30)) == told


def test_no_two_keys_are_of_one_second_and_none_is_older_than_the_last(ring: KeyRing) -> None:
    ring.open(NOON)
    for now in (NOON, NOON - timedelta(days=1)):
        with pytest.raises(BadSigningKeys, match="as new as"):
            ring.rotate(now)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_have_read_does_not_sign(ring: KeyRing, tmp_path: Path, mode: int) -> None:
    ring.open(NOON)
    (path,) = (tmp_path / "permit-keys").iterdir()
    path.chmod(mode)
    with pytest.raises(BadSigningKeys, match="chmod go="):
        ring.newest()


def test_a_folder_where_others_could_plant_a_key_is_refused(ring: KeyRing, tmp_path: Path) -> None:
    ring.open(NOON)
    (tmp_path / "permit-keys").chmod(0o777)
    with pytest.raises(BadSigningKeys, match="open to others"):
        ring.published(NOON)


@pytest.mark.parametrize(
    ("name", "told", "says"),
    [
        ("20261124T120001Z.pem", b"", "not a private key"),
        ("20261124T120001Z.pem", b"-----BEGIN PRIVATE KEY-----\nMC4CAQ", "not a private key"),
        ("20261124T120001Z.pem", "rsa", "not an Ed25519 key"),
        ("new.pem", "ours", "not named by a time"),
    ],
)
def test_a_ring_with_one_bad_key_is_no_ring(
    ring: KeyRing, tmp_path: Path, name: str, told: bytes | str, says: str
) -> None:
    """Nor is another key made in its place."""
    ring.open(NOON)
    folder = tmp_path / "permit-keys"
    (first,) = folder.iterdir()
    content = told if isinstance(told, bytes) else first.read_bytes() if told == "ours" else _rsa()
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o600)
    for ask in (ring.newest, lambda: ring.published(NOON), lambda: ring.open(NOON)):
        with pytest.raises(BadSigningKeys, match=says):
            ask()
    assert len(list(folder.iterdir())) == 2


def test_keys_that_are_gone_while_it_runs_are_not_made_anew(ring: KeyRing, tmp_path: Path) -> None:
    ring.open(NOON)
    (path,) = (tmp_path / "permit-keys").iterdir()
    path.unlink()
    with pytest.raises(BadSigningKeys, match="has no key"):
        ring.newest()
    path.parent.rmdir()
    with pytest.raises(BadSigningKeys, match="cannot be read"):
        ring.published(NOON)


def test_a_half_written_key_is_not_read(ring: KeyRing, tmp_path: Path) -> None:
    ring.open(NOON)
    (tmp_path / "permit-keys" / "20261124T130000Z.new").write_bytes(b"-----BEGIN")
    assert len(ring.published(NOON).keys) == 1


def _rsa() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return rsa.generate_private_key(65_537, 2_048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


if __name__ == "__main__":
    VECTORS.parent.mkdir(exist_ok=True)
    VECTORS.write_text(vectors())
