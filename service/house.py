"""What the service works with, as the settings ask for it: world model and stand-in, recorded history, ledger and its keys."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from service.anchors.bank import AnchorBank, AnchorBankUnavailable
from service.anchors.history import index_history
from service.decisions.chain import Sealer
from service.decisions.ledger import Ledger
from service.decisions.signing import KeyRing
from service.decisions.sqlite import SqliteLedger
from service.decisions.vault import Vault, master
from service.domains import catalog, reference
from service.guardrail import Rooms
from service.policies import Policies
from service.settings import Settings
from service.split import Contender, Split
from service.vocabulary.decision import ModelStory
from service.world.cases import CasesWorldModel
from service.world.checkpoint import BadCheckpoint, Checkpoint, Manifest, opened
from service.world.codec import Codec
from service.world.instruct import Instructed
from service.world.model import WorldModel
from service.world.scripted import Line, ScriptedWorldModel
from service.world.step import Form, Marked

STOCK_S = 5.0
"""How often a bank that was not there at the start is asked again whether it can be filled."""


@dataclass(frozen=True, slots=True)
class House:
    """The rooms, and whether they are as they were."""

    rooms: Rooms
    sealed_by: str = ""
    """Tells the secret that free text is sealed under from any other."""
    stocked: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """Where a contender's weights are, and which servers have them."""

    checkpoint: Path
    urls: Sequence[str]
    model: str


async def furnish(settings: Settings, now: datetime) -> House:
    """The adapters that the settings ask for. Raises `BadPolicies`, `BadCheckpoint`, `AnchorBankUnavailable` when one cannot be had."""
    Policies(catalog(), settings.policies)  # refused before anything is made
    settings.data.mkdir(parents=True, exist_ok=True)
    found = [(source, await asyncio.to_thread(_opened, settings, source)) for source in sources(settings)]
    comparable(*[opened.manifest for _, opened in found if opened])
    bank = await _bank(settings)
    serving, *candidate = await asyncio.gather(*[_contender(settings, *each, bank) for each in found])
    vault, ring = open_vault(settings), signing_keys(settings, now)
    split = Split(serving, next(iter(candidate), None), settings.candidate_share)
    rooms = Rooms(split, CasesWorldModel(bank), bank, open_ledger(settings, ring, vault))
    return House(rooms, vault.fingerprint, await stocked(bank, settings))


def sources(settings: Settings) -> list[Source]:
    """Of the checkpoint that serves, and of the candidate if there is one."""
    serving = Source(settings.checkpoint, settings.vllm_urls, settings.vllm_model)
    if settings.candidate is None:
        return [serving]
    return [serving, Source(settings.candidate, settings.candidate_vllm_urls, settings.candidate_vllm_model)]


def comparable(serving: Manifest | None = None, candidate: Manifest | None = None) -> None:
    """Raises `BadCheckpoint` for a candidate that decisions could not be told from, or that was not measured everywhere."""
    if serving is None or candidate is None:
        return
    if candidate.name == serving.name:
        raise BadCheckpoint(f"the candidate is named {candidate.name} too: decisions could not say which answered")
    if missing := serving.domains.keys() - candidate.domains.keys():
        raise BadCheckpoint(f"the candidate {candidate.name} was not measured in {', '.join(sorted(missing))}")


def signing_keys(settings: Settings, now: datetime) -> KeyRing:
    """Those of permits and of the audit chain's checkpoints; the first is made at first start. Raises `BadSigningKeys`."""
    ring = KeyRing(settings.data / "signing-keys")
    ring.open(now)
    return ring


def open_vault(settings: Settings) -> Vault:
    """Its secret is made at first start, and must be the same wherever the same ledger is used. Raises `BadMaster`."""
    return Vault(master(settings.data / "vault.secret"))


def open_ledger(settings: Settings, ring: KeyRing, vault: Vault) -> Ledger:
    """Signed by the newest key, its free text sealed. Raises `BadSigningKeys`."""
    sealer = Sealer(ring.newest().private)
    if settings.ledger_url:
        from service.decisions.redis import RedisLedger

        return RedisLedger(settings.ledger_url, sealer=sealer, vault=vault, vouched=settings.ledger_vouched)
    return SqliteLedger(settings.data / "ledger.sqlite", sealer=sealer, vault=vault)


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint's story, and how its model is asked; `local` is there if it is to run in process."""

    manifest: Manifest
    form: Form
    local: Checkpoint | None = None


def _opened(settings: Settings, source: Source) -> Opened | None:
    """None where no checkpoint is asked."""
    if settings.world == "local":
        local = Checkpoint(source.checkpoint)
        return Opened(local.manifest, Marked(local.codec), local)
    if settings.world != "vllm":
        return None
    if settings.vllm_form == "instructed":
        return Opened(*opened(source.checkpoint, lambda told: Instructed(told, catalog().values())))
    manifest, codec = opened(source.checkpoint, Codec)
    return Opened(manifest, Marked(codec))


async def _contender(settings: Settings, source: Source, found: Opened | None, bank: AnchorBank) -> Contender:
    world = await _world(settings, source, found) or CasesWorldModel(bank)
    told = ModelStory(
        engine=world.name,
        checkpoint=found.manifest.name if found else "",
        codec=found.manifest.codec if found else "",
        policy="",
        anchors=bank.name,
    )
    return Contender(world, told, found.manifest.domains if found else {})


async def _world(settings: Settings, source: Source, found: Opened | None) -> WorldModel | None:
    """None where recorded cases are all there is."""
    if settings.world == "scripted":
        return ScriptedWorldModel([Line("")], latency=settings.scripted_latency_ms / 1000)
    if not found:
        return None
    if found.local:
        return await asyncio.to_thread(_local, found.local, settings.threads)
    from service.world.vllm import VllmWorldModel

    models = {name: source.model.format(domain=name) for name in catalog()}
    return await VllmWorldModel.connect(found.form, found.manifest, models, source.urls, settings.vllm_api_key)


def _local(checkpoint: Checkpoint, threads: int) -> WorldModel:
    from service.world.local import LocalWorldModel

    return LocalWorldModel(checkpoint, threads)


async def _bank(settings: Settings) -> AnchorBank:
    from service.anchors.encoder import Encoder

    encoder = await asyncio.to_thread(Encoder, settings.data / "cache", settings.threads)
    bank: AnchorBank
    if settings.anchors_url:
        from qdrant_client import AsyncQdrantClient

        from service.anchors.qdrant import QdrantAnchorBank

        client = AsyncQdrantClient(settings.anchors_url, api_key=settings.anchors_api_key or None)
        bank = QdrantAnchorBank(client, "premortem", encoder)
    else:
        from service.anchors.edge import EdgeAnchorBank

        bank = await asyncio.to_thread(EdgeAnchorBank, settings.data / "anchors", encoder)
    return bank


async def stocked(bank: AnchorBank, settings: Settings) -> bool:
    """Whether the bundled history is all there; a bank that cannot be asked now is filled when it can be."""
    try:
        for name, domain in catalog().items():
            await index_history(bank, domain, reference(name), settings.bundled_history)
    except AnchorBankUnavailable:
        return False
    return True


async def stock(bank: AnchorBank, settings: Settings) -> None:
    while True:
        await asyncio.sleep(STOCK_S)
        if await stocked(bank, settings):
            return
