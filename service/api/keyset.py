"""The public keys of an identity provider: asked for seldom, never on the event loop, and kept no longer than they can be vouched for.

The standard library asks, in a thread of its own: two small documents every five minutes are worth no HTTP client among the
dependencies, and urllib knows the operator's proxy (HTTPS_PROXY) and trust store (SSL_CERT_FILE).
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPMessage
from ipaddress import ip_address
from math import inf
from time import monotonic as clock
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from jwt import PyJWK
from jwt.exceptions import PyJWTError

KEYS_OF: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    **{"ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"), "EdDSA": ("OKP", "Ed25519")},
}
"""The `kty` and `crv` that an algorithm takes (RFC 7518, RFC 8037). What is not here is not asymmetric, or not wanted."""
FRESH_S, KEPT_S = 300.0, 3_600.0
"""Keys older than the first are fetched anew in the background, older than the second they are good no more."""
PAUSE_S = 10.0
"""Between two fetches, whoever asks: a made-up `kid` costs the provider nothing more."""
PATIENCE_S, MOST_BYTES = 5.0, 256 * 1024

Fit = Mapping[str, PyJWK]
"""A key, ready for each algorithm that it may be used with."""


class IdentityProviderUnavailable(Exception):
    """Its keys cannot be had, so nobody can be let in by one that is not known already."""


class Keyset:
    """What one provider publishes. `trouble` is why the last fetch failed, empty if it did not."""

    def __init__(
        self, issuer: str, jwks_url: str, algorithms: Sequence[str], monotonic: Callable[[], float] = clock
    ) -> None:
        self._issuer, self._url, self._algorithms, self._clock = issuer, jwks_url, tuple(algorithms), monotonic
        self._held: Mapping[str, Fit] = {}
        self._held_at = self._tried_at = -inf
        self._flight: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "oidc-keys")
        self.trouble = f"the keys of {issuer} have not been fetched yet"

    async def key(self, kid: str) -> Fit | None:
        """None if the provider says it has no such key. Raises `IdentityProviderUnavailable` if it says nothing."""
        if (known := self._known(kid)) is not None:
            if self._age() > FRESH_S:
                self._refresh()
            return known
        if (flight := self._refresh()) is not None:
            await asyncio.wait((flight,))
        if (known := self._known(kid)) is None and self.trouble:
            raise IdentityProviderUnavailable(self.trouble)
        return known

    async def aclose(self) -> None:
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait((self._flight,))
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _age(self) -> float:
        return self._clock() - self._held_at

    def _known(self, kid: str) -> Fit | None:
        return self._held.get(kid) if self._age() <= KEPT_S else None

    def _refresh(self) -> asyncio.Task[None] | None:
        """The one fetch under way, or None if it is too soon for another."""
        if self._flight is None or self._flight.done():
            if self._clock() - self._tried_at < PAUSE_S:
                return None
            self._tried_at = self._clock()
            self._flight = asyncio.create_task(self._fetch())
        return self._flight

    async def _fetch(self) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(PATIENCE_S):
                held = await asyncio.get_running_loop().run_in_executor(self._thread, self._published)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            self.trouble = f"the keys of {self._issuer} cannot be had: {str(error) or type(error).__name__}"
        else:
            self._held, self._held_at, self.trouble = held, began, ""

    def _published(self) -> Mapping[str, Fit]:
        keys = _got(self._url or self._discovered()).get("keys")
        if not isinstance(keys, list):
            raise ValueError("what it publishes is no JWK Set")
        held: dict[str, dict[str, PyJWK]] = {}
        for jwk in (jwk for jwk in keys if isinstance(jwk, dict) and isinstance(jwk.get("kid"), str)):
            fit = held.setdefault(jwk["kid"], {})
            for algorithm in self._algorithms:
                if (key := _fitting(jwk, algorithm)) is not None:
                    fit.setdefault(algorithm, key)
        return held

    def _discovered(self) -> str:
        """OpenID Connect Discovery 1.0, §4.3: a document that names another issuer is not this one's."""
        told = _got(discovery(self._issuer))
        url = told.get("jwks_uri")
        if told.get("issuer") != self._issuer or not isinstance(url, str):
            raise ValueError("its discovery document is another issuer's, or names no keys")
        return url


def discovery(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def secure(url: str) -> str:
    """The address itself. Raises ValueError unless it is https, or http to this very machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not _loopback(host)):
        raise ValueError(f"{url!r} is neither https nor on a loopback address")
    return url


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _fitting(jwk: dict[str, Any], algorithm: str) -> PyJWK | None:
    """A private key among the published ones is everybody's, and so nobody's."""
    ops = jwk.get("key_ops", ["verify"])
    wanted = (*KEYS_OF[algorithm], algorithm, "sig", False, True)
    told = (jwk.get("kty"), jwk.get("crv"), jwk.get("alg", algorithm), jwk.get("use", "sig"), "d" in jwk)
    if (*told, isinstance(ops, list) and "verify" in ops) != wanted:
        return None
    try:
        key = PyJWK(jwk, algorithm)
    except PyJWTError:
        return None
    return None if key.Algorithm.check_key_length(key.key) else key


class _Straight(HTTPRedirectHandler):
    """An answer that points elsewhere is no answer."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        return None


def _got(url: str) -> dict[str, Any]:
    """A JSON object. Raises OSError, HTTPException, ValueError or RecursionError."""
    plain = secure(url).startswith("http:")
    opener = build_opener(
        _Straight, HTTPSHandler(context=ssl.create_default_context()), ProxyHandler({} if plain else None)
    )
    until, body = clock() + PATIENCE_S, b""
    with opener.open(Request(url, headers={"Accept": "application/json"}), timeout=PATIENCE_S) as response:
        while part := response.read1(MOST_BYTES):
            body += part
            if len(body) > MOST_BYTES or clock() > until:
                raise ValueError(f"more than {MOST_BYTES} bytes, or not within {PATIENCE_S:g} s")
    told = json.loads(body)
    if not isinstance(told, dict):
        raise ValueError("what it publishes is no JSON object")
    return told
