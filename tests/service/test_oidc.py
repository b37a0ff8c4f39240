"""A token of the organisation's identity provider lets in whom it names, and nothing else does.

The provider is real: an HTTP server on this machine that publishes a discovery document and keys, and is down when it is told.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from service.api.callers import Role
from service.api.keyset import FRESH_S, KEPT_S, MOST_BYTES, PAUSE_S
from service.api.oidc import ROLES as KNOWN
from service.api.oidc import BadToken, Identity, IdentityProviderUnavailable, OidcVerifier, Provider
from service.decisions.permit import Claims, PermitKind, sign
from service.decisions.signing import SigningKey

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW = int(NOON.timestamp())
AUDIENCE = "https://premortem.example"
DISCOVERY = "/.well-known/openid-configuration"
LEEWAY_S = 30

RSA, OTHER_RSA, SMALL_RSA = generate_rsa(65537, 2048), generate_rsa(65537, 2048), generate_rsa(65537, 1024)
EC, EC384, ED = generate_private_key(SECP256R1()), generate_private_key(SECP384R1()), Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **changed: Any) -> dict[str, Any]:
    """What the provider publishes of a key. A member that is changed to None is left out."""
    kind = (
        ECAlgorithm if hasattr(key, "curve") else OKPAlgorithm if isinstance(key, Ed25519PrivateKey) else RSAAlgorithm
    )
    told = {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"} | changed
    return {name: value for name, value in told.items() if value is not None}


KEYS = [
    jwk(RSA, "rsa", alg="RS256"),
    jwk(RSA, "any-rsa", key_ops=None),
    jwk(EC, "ec", alg="ES256"),
    jwk(ED, "ed"),
    jwk(EC384, "ec384"),
    jwk(RSA, "for-ps256", alg="PS256"),
    jwk(RSA, "for-encryption", use="enc"),
    jwk(RSA, "to-sign", key_ops=["sign"]),
    jwk(SMALL_RSA, "small"),
    {**RSAAlgorithm.to_jwk(OTHER_RSA, as_dict=True), "kid": "private", "key_ops": ["verify"]},
    {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"k" * 32).decode(), "alg": "HS256"},
    jwk(RSA, "broken", n="?"),
    {"kty": "RSA", "kid": 7},
]


class IdentityProvider(ThreadingHTTPServer):
    """Publishes `keys`; `says` answers in the stead of a path, `gate` holds the keys back while it is closed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.keys: list[dict[str, Any]] = list(KEYS)
        self.says: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked[path] += 1
        if path in self.says:
            return self.says[path]
        if path == "/keys":
            self.gate.wait(10)
        told = {DISCOVERY: {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}, "/keys": {"keys": self.keys}}.get(path)
        return (200, {}, json.dumps(told).encode()) if told else (404, {}, b"")

    def fails(self, path: str = "/keys") -> None:
        self.says[path] = (503, {}, b"{}")

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Page(BaseHTTPRequestHandler):
    server: IdentityProvider

    def do_GET(self) -> None:
        status, headers, body = self.server.answer(self.path)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the test's output."""


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.s)

    def monotonic(self) -> float:
        return self.s


def claims(url: str, **changed: Any) -> dict[str, Any]:
    """A supervisor who was authenticated a minute ago. A claim that is changed to None is left out."""
    told = {
        **{"iss": url, "aud": AUDIENCE, "sub": "u-17", "iat": NOW - 60, "exp": NOW + 600},
        **{"roles": ["supervisor"], "tenant": "north", "azp": "console", "amr": ["pwd", "otp"]},
    } | changed
    return {name: value for name, value in told.items() if value is not None}


def token(url: str, key: Any = RSA, alg: str = "RS256", header: dict[str, Any] | None = None, **changed: Any) -> str:
    kid = {"RS256": "rsa", "ES256": "ec", "EdDSA": "ed"}.get(alg, "rsa")
    head = {"kid": kid, "typ": "JWT"} | (header or {})
    return jwt.encode(
        claims(url, **changed), key, alg, {name: value for name, value in head.items() if value is not None}
    )


def sealed(header: dict[str, Any], payload: bytes, seal: Callable[[bytes], bytes]) -> str:
    """A compact JWS of anything at all."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), payload)]
    signed = b".".join(parts)
    return (signed + b"." + base64.urlsafe_b64encode(seal(signed)).rstrip(b"=")).decode()


def by_ed(header: dict[str, Any], payload: bytes) -> str:
    return sealed({"alg": "EdDSA", "kid": "ed", "typ": "JWT"} | header, payload, ED.sign)


def public_pem(encoding: serialization.Encoding = serialization.Encoding.PEM) -> bytes:
    return RSA.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    server = IdentityProvider()
    yield server
    server.gate.set()
    server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def verifier(idp: IdentityProvider, clock: Clock) -> AsyncIterator[OidcVerifier]:
    made = OidcVerifier(Provider(idp.url, AUDIENCE), clock.now, clock.monotonic)
    yield made
    await made.aclose()


async def identity(idp: IdentityProvider, told: str, **provider: Any) -> Identity:
    """What a verifier that was just started makes of it."""
    made = OidcVerifier(Provider(idp.url, AUDIENCE, **provider), lambda: NOON)
    try:
        return await made.identity(told)
    finally:
        await made.aclose()


# Who is let in, and as whom.


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
async def test_a_good_token_names_a_person_their_roles_and_their_tenant(
    idp: IdentityProvider, verifier: OidcVerifier, key: Any, alg: str
) -> None:
    assert await verifier.identity(token(idp.url, key, alg)) == Identity(
        "oidc:u-17", frozenset({"supervisor"}), "north", True
    )


GOOD: list[tuple[str, Callable[[str], str]]] = [
    ("an access token by RFC 9068", lambda url: token(url, header={"typ": "at+jwt"})),
    ("its type in full, in any case", lambda url: token(url, header={"typ": "application/AT+JWT"})),
    ("several audiences, ours among them", lambda url: token(url, aud=["billing", AUDIENCE])),
    ("a key that does not say its algorithm", lambda url: token(url, header={"kid": "any-rsa"})),
    ("in the last second before the leeway ends", lambda url: token(url, exp=NOW - LEEWAY_S + 1)),
    ("begun within the leeway", lambda url: token(url, nbf=NOW + LEEWAY_S)),
    ("issued within the leeway", lambda url: token(url, iat=NOW + LEEWAY_S)),
    ("moments with a fraction", lambda url: token(url, iat=NOW - 0.5, exp=NOW + 0.5)),
    ("where else a key lies is not read", lambda url: token(url, header={"jku": f"{url}/theirs", "x5u": f"{url}/x5u"})),
]


@pytest.mark.parametrize("made", [made for _, made in GOOD], ids=[name for name, _ in GOOD])
async def test_what_is_as_good(idp: IdentityProvider, made: Callable[[str], str]) -> None:
    assert (await identity(idp, made(idp.url))).name == "oidc:u-17"
    assert idp.asked == {DISCOVERY: 1, "/keys": 1}


ROLES: list[tuple[str, dict[str, Any], dict[str, Any], set[str]]] = [
    ("a list", {}, {"roles": ["agent", "auditor"]}, {"agent", "auditor"}),
    ("a string by spaces", {}, {"roles": "agent outcome"}, {"agent", "outcome"}),
    ("Keycloak's path", {"roles_claim": "realm_access.roles"}, {"realm_access": {"roles": ["admin"]}}, {"admin"}),
    (
        "a name with dots",
        {"roles_claim": "https://premortem.example/roles"},
        {AUDIENCE + "/roles": ["agent"]},
        {"agent"},
    ),
    ("strangers are dropped", {}, {"roles": ["agent", "root", "offline_access", 7, None, ["admin"]]}, {"agent"}),
    ("no such case", {}, {"roles": ["Admin", "ADMIN", " admin"]}, set()),
    ("none", {}, {"roles": None}, set()),
    ("an object", {}, {"roles": {"admin": True}}, set()),
    ("a path that leads nowhere", {"roles_claim": "realm_access.roles"}, {"realm_access": ["admin"]}, set()),
]


@pytest.mark.parametrize(("provider", "told", "roles"), [case[1:] for case in ROLES], ids=[case[0] for case in ROLES])
async def test_roles_are_read_as_providers_write_them(
    idp: IdentityProvider, provider: dict[str, Any], told: dict[str, Any], roles: set[str]
) -> None:
    assert (await identity(idp, token(idp.url, **told), **provider)).roles == roles


def test_the_roles_that_a_token_may_carry_are_the_roles_there_are() -> None:
    assert set(Role) == KNOWN


async def test_a_fixed_tenant_is_everyones_whatever_the_token_says(idp: IdentityProvider) -> None:
    for told in (None, "south"):
        assert (await identity(idp, token(idp.url, tenant=told), tenant="north")).tenant == "north"
    nested = token(idp.url, tenant=None, org={"id": "south"})
    assert (await identity(idp, nested, tenant_claim="org.id")).tenant == "south"


HUMAN: list[tuple[str, dict[str, Any], bool]] = [
    ("a password and a second factor", {}, True),
    ("no word of how", {"amr": None}, False),
    ("an empty list", {"amr": []}, False),
    ("empty words", {"amr": ["", " "]}, False),
    ("a string is no list of methods", {"amr": "pwd"}, False),
    ("no methods but numbers", {"amr": [1]}, False),
    ("true", {"amr": True}, False),
    ("the client itself, by azp", {"azp": "u-17"}, False),
    ("the client itself, by client_id", {"client_id": "u-17"}, False),
    ("the client itself, as Okta says it", {"cid": "u-17"}, False),
    ("the client itself, as Entra says it", {"appid": "u-17"}, False),
    ("an application, as Entra says it", {"idtyp": "app"}, False),
    ("client credentials, as Auth0 says it", {"gty": "client-credentials"}, False),
    ("client credentials, by RFC 6749", {"grant_type": "client_credentials"}, False),
    ("client credentials among others", {"gty": ["refresh_token", "client-credentials"]}, False),
    ("a person's grant", {"gty": "password"}, True),
    ("a service that acts for a person", {"act": {"sub": "agent-7"}}, False),
]


@pytest.mark.parametrize(("told", "human"), [case[1:] for case in HUMAN], ids=[case[0] for case in HUMAN])
async def test_a_person_is_one_who_authenticated_and_is_no_client(
    idp: IdentityProvider, told: dict[str, Any], human: bool
) -> None:
    assert (await identity(idp, token(idp.url, **told))).human is human


# Who is not, and what they are told.


def permit(url: str) -> str:
    """One of our own, and as favourable to whoever shows it as can be: the provider even publishes its key."""
    said = {"iss": url, "sub": "dec_1", "aud": AUDIENCE, "domain": "safety", "agent": "a", "act": "a", "state": "s"}
    moments = {"iat": NOW, "nbf": NOW, "exp": NOW + 60}
    told = Claims.model_validate({**said, **moments, "kind": PermitKind.approval, "jti": "dec_1.approval"})
    return sign(told, SigningKey(NOON, ED))


def with_secret(url: str, secret: bytes, kid: str = "rsa", alg: str = "HS256") -> str:
    """Signed with what anyone may read."""
    payload = json.dumps(claims(url)).encode()
    return sealed(
        {"alg": alg, "kid": kid, "typ": "JWT"}, payload, lambda signed: hmac.digest(secret, signed, hashlib.sha256)
    )


def public_jwk() -> bytes:
    return json.dumps(KEYS[0]).encode()


NO_ALGORITHM, MISSING = "its algorithm is not allowed", "it lacks one of iss, aud, sub, exp, iat"
NO_TYPE, NOT_ITS, NO_JWT = (
    "its type is neither JWT nor at+jwt",
    "the key it names is not for this algorithm",
    "not a signed JWT",
)
FORGED, UNKNOWN = "its signature is not the provider's", "the provider has no key of this id"
UNREADABLE, EARLY, LATE = "its header cannot be read", "it is not valid yet", "it has expired"
NO_CLAIMS, SUB, TENANT = "its claims cannot be read", "its sub is missing", "its tenant is missing"

BAD: list[tuple[str, Callable[[str], str], str]] = [
    ("nothing", lambda url: "", NO_JWT),
    ("one of our own keys", lambda url: "pm_agent_abc", NO_JWT),
    ("five parts: encrypted", lambda url: "a.b.c.d.e", NO_JWT),
    ("another alphabet", lambda url: "é" + token(url), NO_JWT),
    ("padding", lambda url: token(url) + "==", NO_JWT),
    ("a line break at its end", lambda url: token(url) + "\n", NO_JWT),
    ("too long", lambda url: token(url, note="n" * 8_192), "a token is at most 8192 bytes long"),
    ("a header that is no JSON", lambda url: "AAAA." + token(url).split(".", 1)[1], UNREADABLE),
    ("a header nested without end", lambda url: base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.AA", UNREADABLE),
    # Algorithms.
    ("none", lambda url: jwt.encode(claims(url), "", "none", {"kid": "rsa"}) + "AA", NO_ALGORITHM),
    ("none, without a signature", lambda url: jwt.encode(claims(url), "", "none", {"kid": "rsa"}), NO_JWT),
    ("None", lambda url: by_ed({"alg": "None"}, b"{}"), NO_ALGORITHM),
    ("no algorithm", lambda url: by_ed({"alg": None}, b"{}"), NO_ALGORITHM),
    ("a list of algorithms", lambda url: by_ed({"alg": ["EdDSA"]}, b"{}"), NO_ALGORITHM),
    ("HS256 with the public key", lambda url: with_secret(url, public_pem()), NO_ALGORITHM),
    ("HS256 with its DER", lambda url: with_secret(url, public_pem(serialization.Encoding.DER)), NO_ALGORITHM),
    ("HS256 with its JWK", lambda url: with_secret(url, public_jwk()), NO_ALGORITHM),
    ("HS256 with a secret that is published", lambda url: with_secret(url, b"k" * 32, "secret"), NO_ALGORITHM),
    ("RS256 that is HMAC with the public key", lambda url: with_secret(url, public_pem(), alg="RS256"), FORGED),
    ("asymmetric, and not allowed", lambda url: token(url, RSA, "PS256"), NO_ALGORITHM),
    ("an elliptic signature by an RSA key's name", lambda url: token(url, EC, "ES256", {"kid": "rsa"}), NOT_ITS),
    ("an RSA signature by an elliptic key's name", lambda url: token(url, header={"kid": "ec"}), NOT_ITS),
    ("a key for PS256", lambda url: token(url, header={"kid": "for-ps256"}), NOT_ITS),
    ("a key for encryption", lambda url: token(url, header={"kid": "for-encryption"}), NOT_ITS),
    ("a key that may only sign", lambda url: token(url, header={"kid": "to-sign"}), NOT_ITS),
    ("a key on another curve", lambda url: by_ed({"alg": "ES256", "kid": "ec384"}, b"{}"), NOT_ITS),
    ("a key that is too short", lambda url: token(url, SMALL_RSA, header={"kid": "small"}), NOT_ITS),
    ("a key whose private half is published", lambda url: token(url, OTHER_RSA, header={"kid": "private"}), NOT_ITS),
    ("a key that cannot be read", lambda url: token(url, header={"kid": "broken"}), NOT_ITS),
    # Headers.
    ("no kid", lambda url: token(url, header={"kid": None}), "it names no key"),
    ("an empty kid", lambda url: token(url, header={"kid": ""}), "it names no key"),
    ("a number for a kid", lambda url: by_ed({"kid": 7}, b"{}"), UNREADABLE),
    ("a kid nobody published", lambda url: token(url, header={"kid": "other"}), UNKNOWN),
    ("a permit of ours", permit, NO_TYPE),
    ("a logout token", lambda url: token(url, header={"typ": "logout+jwt"}), NO_TYPE),
    ("no type", lambda url: by_ed({"typ": None}, b"{}"), NO_TYPE),
    ("a type that is no word", lambda url: by_ed({"typ": 1}, b"{}"), NO_TYPE),
    ("critical extensions", lambda url: by_ed({"crit": ["exp"], "exp": 1}, b"{}"), UNREADABLE),
    ("the one that PyJWT knows", lambda url: by_ed({"crit": ["b64"], "b64": True}, b"{}"), "it asks for extensions"),
    ("a payload elsewhere", lambda url: by_ed({"crit": ["b64"], "b64": False}, b"{}"), UNREADABLE),
    ("a key of its own, by address", lambda url: token(url, OTHER_RSA, header={"jku": f"{url}/theirs"}), FORGED),
    ("a key of its own, in it", lambda url: token(url, OTHER_RSA, header={"jwk": jwk(OTHER_RSA, "rsa")}), FORGED),
    ("a key of its own, by certificate", lambda url: token(url, OTHER_RSA, header={"x5u": f"{url}/x5u"}), FORGED),
    ("... under a name of its own", lambda url: token(url, OTHER_RSA, header={"kid": "k", "jku": f"{url}/k"}), UNKNOWN),
    # Signature and payload.
    ("another's signature", lambda url: token(url, OTHER_RSA), FORGED),
    (
        "another token's signature",
        lambda url: f"{token(url, sub='eve').rpartition('.')[0]}.{token(url)[-342:]}",
        FORGED,
    ),
    ("a payload that is no object", lambda url: by_ed({}, b"[]"), NO_CLAIMS),
    ("a payload that is no JSON", lambda url: by_ed({}, b"\xff"), NO_CLAIMS),
    # Whose, and for whom.
    ("another issuer", lambda url: token("https://evil.example"), "it is another issuer's"),
    ("nearly our issuer", lambda url: token(url + "/"), "it is another issuer's"),
    ("two issuers", lambda url: by_ed({}, json.dumps(claims(url, iss=[url])).encode()), "it is another issuer's"),
    ("no issuer", lambda url: by_ed({}, json.dumps(claims(url, iss=None)).encode()), MISSING),
    ("another audience", lambda url: token(url, aud="billing"), "it is for another audience"),
    ("nearly our audience", lambda url: token(url, aud=[AUDIENCE + "/", AUDIENCE[:-1]]), "it is for another audience"),
    ("an audience that is no word", lambda url: token(url, aud=[AUDIENCE, 1]), "it is for another audience"),
    ("no audience", lambda url: token(url, aud=None), MISSING),
    ("an empty audience", lambda url: token(url, aud=[]), MISSING),
    ("no subject", lambda url: token(url, sub=None), MISSING),
    ("a subject that is no word", lambda url: by_ed({}, json.dumps(claims(url, sub=7)).encode()), NO_CLAIMS),
    ("an empty subject", lambda url: token(url, sub=" "), SUB),
    ("a subject that is too long", lambda url: token(url, sub="s" * 256), SUB),
    ("a subject with a line break", lambda url: token(url, sub="u-17\nadmin"), SUB),
    ("no tenant", lambda url: token(url, tenant=None), TENANT),
    ("an empty tenant", lambda url: token(url, tenant=""), TENANT),
    ("several tenants", lambda url: token(url, tenant=["north", "south"]), TENANT),
    # When.
    ("no end", lambda url: token(url, exp=None), MISSING),
    ("no beginning", lambda url: token(url, iat=None), MISSING),
    ("expired as the leeway ends", lambda url: token(url, exp=NOW - LEEWAY_S), LATE),
    ("not before the leeway's other end", lambda url: token(url, nbf=NOW + LEEWAY_S + 1), EARLY),
    ("issued in the future", lambda url: token(url, iat=NOW + LEEWAY_S + 1), EARLY),
    ("an end that is a word", lambda url: token(url, exp=str(NOW + 600)), "its exp is no time"),
    ("an end that is true", lambda url: token(url, exp=True), "its exp is no time"),
    ("no end in sight", lambda url: token(url, exp=float("inf")), "its exp is no time"),
    ("an end that is no number", lambda url: token(url, exp=float("nan")), "its exp is no time"),
    ("a beginning that is none", lambda url: token(url, nbf=float("nan")), "its nbf is no time"),
    ("a beginning long after the world's", lambda url: token(url, nbf=10**400), EARLY),
]


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(("made", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_what_is_refused_and_why(idp: IdentityProvider, made: Callable[[str], str], said: str) -> None:
    idp.keys.append(jwk(ED, SigningKey(NOON, ED).public.kid))
    with pytest.raises(BadToken) as refused:
        await identity(idp, made(idp.url))
    assert refused.value.detail.startswith(said)
    assert set(idp.asked) <= {DISCOVERY, "/keys"}, "an address in a token was asked"


async def test_a_token_is_good_until_its_leeway_is_over(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    shown = token(idp.url, exp=NOW + 10)
    clock.s = 10 + LEEWAY_S - 0.001
    assert await verifier.identity(shown)
    clock.s = 10 + LEEWAY_S
    with pytest.raises(BadToken, match=LATE):
        await verifier.identity(shown)


@pytest.fixture(scope="module")
def standing() -> Iterator[tuple[list[str], Callable[[str], str]]]:
    """Good tokens, and what becomes of one: a name, or a refusal. Anything else is a failure."""
    server, clock = IdentityProvider(), Clock()
    with asyncio.Runner() as runner:
        verifier = OidcVerifier(Provider(server.url, AUDIENCE), clock.now, clock.monotonic)

        def asked(shown: str) -> str:
            try:
                return runner.run(verifier.identity(shown)).name
            except BadToken:
                return "refused"

        yield [token(server.url, key, alg) for key, alg in ((RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA"))], asked
        runner.run(verifier.aclose())
    server.stop()


@settings(max_examples=1_500, deadline=None)
@given(st.integers(0, 2), st.integers(0), st.sampled_from(["put", "insert", "drop"]), st.integers(1, 255))
def test_no_token_with_one_byte_changed_is_let_in(
    standing: tuple[list[str], Callable[[str], str]], which: int, at: int, how: str, byte: int
) -> None:
    tokens, asked = standing
    good = tokens[which]
    at %= len(good) + (how == "insert")
    put = chr(byte) if byte % 2 else "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[byte % 64]
    changed = good[:at] + ("" if how == "drop" else put) + good[at + (how != "insert") :]
    assert asked(good) == "oidc:u-17"
    assert asked(changed) == ("oidc:u-17" if changed == good else "refused")


# The provider's keys.


UNSAFE: list[tuple[str, dict[str, Any]]] = [
    ("none", {"algorithms": ("none",)}),
    ("a shared secret", {"algorithms": ("RS256", "HS256")}),
    ("no algorithm", {"algorithms": ()}),
    ("an unknown algorithm", {"algorithms": ("RS1",)}),
    ("no issuer", {"issuer": ""}),
    ("no audience", {"audience": ""}),
    ("nowhere to find a tenant", {"tenant_claim": ""}),
    ("plain http", {"issuer": "http://idp.example"}),
    ("plain http for the keys", {"jwks_url": "http://idp.example/keys"}),
    ("a host that begins like this one", {"issuer": "http://127.0.0.1.evil.example"}),
    ("a host behind a loopback name", {"issuer": "http://localhost@evil.example"}),
    ("a file", {"jwks_url": "file:///etc/passwd"}),
    ("no address", {"issuer": "accounts.example"}),
    ("a leeway of an hour", {"leeway_s": 3_600}),
    ("a leeway backwards", {"leeway_s": -1}),
]


@pytest.mark.parametrize("told", [told for _, told in UNSAFE], ids=[name for name, _ in UNSAFE])
def test_an_unsafe_provider_cannot_be_configured(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"identity provider|leeway|loopback"):
        Provider(**{"issuer": "https://idp.example", "audience": AUDIENCE} | told)


def test_https_anywhere_and_http_on_this_machine_will_do() -> None:
    for issuer in ("https://idp.example", "http://localhost:8080/realms/x", "http://127.8.0.1", "http://[::1]:9"):
        assert Provider(issuer, AUDIENCE).issuer == issuer
    assert Provider("accounts.example", AUDIENCE, jwks_url="https://idp.example/keys")


async def test_keys_at_a_given_address_need_no_discovery(idp: IdentityProvider) -> None:
    assert await identity(idp, token(idp.url), jwks_url=f"{idp.url}/keys")
    assert idp.asked == {"/keys": 1}


async def test_many_at_once_make_one_fetch(idp: IdentityProvider, verifier: OidcVerifier) -> None:
    shown = [verifier.identity(token(idp.url, sub=f"u-{number}")) for number in range(50)]
    assert len({each.name for each in await asyncio.gather(*shown)}) == 50
    assert idp.asked["/keys"] == 1


async def test_who_hangs_up_does_not_take_the_keys_from_the_others(
    idp: IdentityProvider, verifier: OidcVerifier
) -> None:
    idp.gate.clear()
    hasty, patient = (asyncio.create_task(verifier.identity(token(idp.url))) for _ in range(2))
    await until(lambda: idp.asked["/keys"] == 1)
    hasty.cancel()
    idp.gate.set()
    assert (await patient).name == "oidc:u-17"
    assert idp.asked["/keys"] == 1


async def test_known_keys_answer_while_others_are_fetched(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    await verifier.identity(token(idp.url))
    clock.s += PAUSE_S
    idp.gate.clear()
    stranger = asyncio.create_task(verifier.identity(token(idp.url, header={"kid": "new"})))
    await until(lambda: idp.asked["/keys"] == 2)
    async with asyncio.timeout(1):
        assert await verifier.identity(token(idp.url))
    assert not stranger.done()
    idp.gate.set()
    with pytest.raises(BadToken, match=UNKNOWN):
        await stranger


async def test_a_storm_of_made_up_kids_is_one_fetch_every_ten_seconds(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    for number in range(600):
        clock.s = number / 10
        with pytest.raises(BadToken, match=UNKNOWN):
            await verifier.identity(token(idp.url, OTHER_RSA, header={"kid": f"made-up-{number}"}))
    assert idp.asked["/keys"] <= 60 / PAUSE_S


async def test_refused_by_its_header_is_no_fetch_at_all(idp: IdentityProvider, verifier: OidcVerifier) -> None:
    for shown in (with_secret(idp.url, b"k"), permit(idp.url), token(idp.url, header={"kid": None}), "a.b.c"):
        with pytest.raises(BadToken):
            await verifier.identity(shown)
    assert not idp.asked


async def test_a_key_that_the_provider_adds_is_good_at_once(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    await verifier.identity(token(idp.url))
    idp.keys.append(jwk(OTHER_RSA, "next"))
    shown = token(idp.url, OTHER_RSA, header={"kid": "next"})
    with pytest.raises(BadToken, match=UNKNOWN):
        await verifier.identity(shown)
    clock.s += PAUSE_S
    assert await verifier.identity(shown)


async def test_a_key_that_the_provider_withdraws_is_good_no_more(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    await verifier.identity(token(idp.url))
    idp.keys.remove(KEYS[0])
    clock.s = FRESH_S
    assert await verifier.identity(token(idp.url, exp=NOW + 9_999)), "fresh still"
    clock.s += 1
    assert await verifier.identity(token(idp.url, exp=NOW + 9_999)), "asked for in the background"
    await until(lambda: idp.asked["/keys"] == 2)
    await until(lambda: refused(verifier, token(idp.url, exp=NOW + 9_999)))


async def test_a_provider_that_withdraws_all_lets_nobody_in(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    await verifier.identity(token(idp.url))
    idp.keys.clear()
    clock.s = PAUSE_S
    with pytest.raises(BadToken, match=UNKNOWN):
        await verifier.identity(token(idp.url, header={"kid": "other"}))
    with pytest.raises(BadToken, match=UNKNOWN):
        await verifier.identity(token(idp.url))


async def test_known_keys_outlive_the_provider_by_an_hour(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    shown = token(idp.url, exp=NOW + 99_999)
    await verifier.identity(shown)
    idp.stop()
    for clock.s in (FRESH_S + 1, 1_000.0, KEPT_S):
        assert await verifier.identity(shown)
        await until(lambda: verifier.trouble)
    clock.s = KEPT_S + PAUSE_S + 1
    with pytest.raises(IdentityProviderUnavailable, match="cannot be had"):
        await verifier.identity(shown)


async def test_an_unknown_kid_at_a_provider_that_is_down_is_not_called_bad(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    """It may be the key that came just now: the caller is to try again, and is not let in."""
    await verifier.identity(token(idp.url))
    idp.fails()
    clock.s = PAUSE_S
    with pytest.raises(IdentityProviderUnavailable, match="503"):
        await verifier.identity(token(idp.url, header={"kid": "next"}))
    assert await verifier.identity(token(idp.url))


async def test_a_provider_that_comes_back_is_asked_again(
    idp: IdentityProvider, verifier: OidcVerifier, clock: Clock
) -> None:
    idp.fails(DISCOVERY)
    for _ in range(20):
        with pytest.raises(IdentityProviderUnavailable):
            await verifier.identity(token(idp.url))
    assert idp.asked == {DISCOVERY: 1}
    assert "503" in verifier.trouble
    idp.says.clear()
    clock.s = PAUSE_S
    assert await verifier.identity(token(idp.url))
    assert not verifier.trouble


ELSEWHERE = {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"}
WRONG: list[tuple[str, Callable[[str], dict[str, tuple[int, dict[str, str], bytes]]], str]] = [
    ("an error", lambda url: {"/keys": (500, {}, b"{}")}, "500"),
    ("another issuer's document", lambda url: {DISCOVERY: (200, {}, json.dumps(ELSEWHERE).encode())}, "another issuer"),
    ("no keys named", lambda url: {DISCOVERY: (200, {}, json.dumps({"issuer": url}).encode())}, "names no keys"),
    (
        "keys in the clear",
        lambda url: {DISCOVERY: (200, {}, json.dumps({"issuer": url, "jwks_uri": "http://idp.example/"}).encode())},
        "loopback",
    ),
    (
        "keys in a file",
        lambda url: {DISCOVERY: (200, {}, json.dumps({"issuer": url, "jwks_uri": "file:///etc/passwd"}).encode())},
        "loopback",
    ),
    ("another place for discovery", lambda url: {DISCOVERY: (302, {"Location": f"{url}/moved"}, b"")}, "302"),
    ("another place for keys", lambda url: {"/keys": (307, {"Location": f"{url}/moved"}, b"")}, "307"),
    ("no JSON", lambda url: {"/keys": (200, {}, b"<html>")}, "cannot be had"),
    ("no text", lambda url: {"/keys": (200, {}, b"\xff\xfe\xff")}, "cannot be had"),
    ("a list", lambda url: {"/keys": (200, {}, json.dumps(KEYS).encode())}, "no JSON object"),
    ("no list of keys", lambda url: {"/keys": (200, {}, b'{"keys": {}}')}, "no JWK Set"),
    ("nested without end", lambda url: {"/keys": (200, {}, b'{"keys":' + b"[" * 99_999)}, "cannot be had"),
    ("too much", lambda url: {"/keys": (200, {}, json.dumps({"keys": KEYS}).encode() + b" " * MOST_BYTES)}, "262144"),
    ("less than it said", lambda url: {"/keys": (200, {"Content-Length": "9999"}, b'{"keys": [')}, "cannot be had"),
]


@pytest.mark.parametrize(("says", "trouble"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_a_provider_that_answers_what_it_should_not_lets_nobody_in(
    idp: IdentityProvider,
    verifier: OidcVerifier,
    clock: Clock,
    says: Callable[[str], dict[str, tuple[int, dict[str, str], bytes]]],
    trouble: str,
) -> None:
    """Nor does it take away what it said before."""
    idp.says = says(idp.url) | {"/moved": (200, {}, json.dumps({"keys": KEYS}).encode())}
    with pytest.raises(IdentityProviderUnavailable, match=trouble):
        await verifier.identity(token(idp.url))
    assert not idp.asked["/moved"]
    wrong, idp.says, clock.s = idp.says, {}, PAUSE_S
    assert await verifier.identity(token(idp.url))
    idp.says, clock.s = wrong, PAUSE_S + FRESH_S + 1
    assert await verifier.identity(token(idp.url))
    await until(lambda: trouble in verifier.trouble)
    assert await verifier.identity(token(idp.url))


async def test_a_proxy_is_not_told_what_stays_on_this_machine(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await identity(idp, token(idp.url))


async def test_a_certificate_must_be_trusted(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the operator's trust store; SSL_CERT_FILE names another."""
    certificate = tmp_path / "idp.pem"
    certificate.write_bytes(self_signed())
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    idp.url = idp.url.replace("http:", "https:")
    idp.socket = context.wrap_socket(idp.socket, server_side=True)
    with pytest.raises(IdentityProviderUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await identity(idp, token(idp.url))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert await identity(idp, token(idp.url))


def self_signed() -> bytes:
    """For 127.0.0.1, with its key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(
            name, name, EC.public_key(), 1, NOON - timedelta(days=3_650), NOON + timedelta(days=3_650)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(EC, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    key = EC.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return key + made.public_bytes(serialization.Encoding.PEM)


async def refused(verifier: OidcVerifier, shown: str) -> bool:
    try:
        await verifier.identity(shown)
    except BadToken:
        return True
    return False


async def until(holds: Callable[[], Any]) -> None:
    """What happens in the background has happened."""
    for _ in range(1_000):
        if await told if asyncio.iscoroutine(told := holds()) else told:
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not happen within five seconds")
