"""Claims in Redis: one hash each, changed by one script if it is still as it was read."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from service.decisions.chain import sorted_json, spelt
from service.decisions.claim import KEPT, Answered, Begun, Claim, Kept, Standing, overtaken, stand
from service.decisions.redis_chain import RedisChain
from service.decisions.scripts import CLAIM

FORGOTTEN_AFTER_S = int(KEPT.total_seconds()) + 3600
"""By the server's own clock; when a claim is over, the clock that is handed in decides."""


class RedisClaims:
    def __init__(self, chain: RedisChain) -> None:
        self._chain = chain

    async def begin(self, claim: Claim, now: datetime) -> Standing:
        while True:
            told: dict[bytes, bytes] = await self._chain.call(
                lambda: self._chain.client.hgetall(self._chain.key(_name(claim)))
            )
            standing = stand(claim, _kept(told), now)
            if not isinstance(standing, Begun):
                return standing
            seen = b":".join((told.get(b"turn", b""), told.get(b"status", b""))).decode()
            fields = {"body_hash": claim.body_hash, "turn": str(standing.turn), "began": spelt(now)}
            if await self._swap(claim, seen, "begin", fields):
                return standing

    async def finish(self, begun: Begun, status: int, body: bytes) -> None:
        answer: Mapping[str, str | bytes] = {"status": str(status), "answer": body}
        if not await self._swap(begun.claim, f"{begun.turn}:", "finish", answer):
            raise overtaken()

    async def abandon(self, begun: Begun) -> None:
        await self._swap(begun.claim, f"{begun.turn}:", "free", {})

    async def _swap(self, claim: Claim, seen: str, verb: str, fields: Mapping[str, str | bytes]) -> bool:
        values = [each for pair in fields.items() for each in pair]
        told = [seen, verb, str(FORGOTTEN_AFTER_S), *values]
        return bool(await self._chain.run(CLAIM, [_name(claim)], told, again=False))


def _name(claim: Claim) -> str:
    return f"claim:{hashlib.sha256(sorted_json([claim.caller, claim.route, claim.key])).hexdigest()}"


def _kept(told: dict[bytes, bytes]) -> Kept | None:
    if not told:
        return None
    answer = Answered(int(told[b"status"]), told[b"answer"]) if b"status" in told else None
    began = datetime.fromisoformat(told[b"began"].decode())
    return Kept(told[b"body_hash"].decode(), int(told[b"turn"]), began, answer)
