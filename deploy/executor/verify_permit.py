"""Checks a Premortem permit before an action is carried out. Copy this file; it needs `cryptography`. See README.md."""

import hashlib
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from decimal import Decimal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LEEWAY, LONGEST = 5, {"approval": 60, "override": 300}  # seconds
STARTED, USED = time.time(), {}


def verify(token, action, state, *, keys, iss, aud, domain, agent, redeem, now=time.time):
    """The action and the state to act on, read from the JSON text they came as. Whatever this raises: do not act."""
    header, payload, signature = parts = [urlsafe_b64decode(part + "==") for part in token.split(".")]
    header, claims = read(header), read(payload)
    public = urlsafe_b64decode({key["kid"]: key["x"] for key in keys["keys"]}[header["kid"]] + "==")
    Ed25519PublicKey.from_public_bytes(public).verify(signature, token.rpartition(".")[0].encode())
    action, state = {"text": "", "arguments": {}} | read(action), read(state)
    act, now_state = (base64url(hashlib.sha256(canonical(value).encode()).digest()) for value in (action, state))
    due = {"iss": iss, "aud": aud, "domain": domain, "agent": agent, "act": act, "state": now_state}
    whole = claims.keys() == due.keys() | {"sub", "kind", "jti", "iat", "nbf", "exp"}
    holds = {"malformed": whole and token == ".".join(map(base64url, parts))}
    holds |= {"wrong_header": header == {"alg": "EdDSA", "kid": header["kid"], "typ": "premortem-permit+jwt"}}
    holds |= {"wrong_span": claims["exp"] - LONGEST[claims["kind"]] <= claims["iat"] <= claims["nbf"] < claims["exp"]}
    holds |= {"not_yet_valid": claims["nbf"] - LEEWAY <= now(), "expired": now() < claims["exp"]}
    holds |= {f"wrong_{name}": claims[name] == value for name, value in due.items()}
    flaws = [name for name, held in holds.items() if not held]
    if flaws or redeem(claims) is not True:
        raise PermissionError(", ".join(flaws) or "used")
    return action, state


def once(claims):
    """For `redeem`, where one process executes. Several must share one memory (README.md), or each accepts a permit."""
    for jti in [jti for jti, used in list(USED.items()) if used["exp"] < claims["exp"] - 600]:
        USED.pop(jti, None)
    return claims["iat"] >= STARTED and USED.setdefault(claims["jti"], claims) is claims


def read(text):  # `strict` raises where a key is there twice
    return json.loads(text, object_pairs_hook=lambda pairs: dict(zip(dict(pairs), [v for _, v in pairs], strict=True)))


def canonical(value):  # RFC 8785; what that leaves out (NaN, 2**53 and more) is never signed, and so never matches
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float) and not value.is_integer():
        return f"{Decimal(repr(value)):f}" if abs(value) >= 1e-6 else repr(value).replace("e-0", "e-")
    return json.dumps(int(value) if isinstance(value, float) else value, ensure_ascii=False)


def base64url(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()
