"""What the service works with, as the settings ask for it: world model and stand-in, recorded history, ledger and its keys."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from service.anchors.bank import AnchorBank, AnchorBankUnavailable
from service.anchors.history import index_history
from service.decisions.chain import Sealer
from service.decisions.ledger import Ledger
from service.decisions.signing import KeyRing
from service.decisions.sqlite import SqliteLedger
from service.decisions.vault import Vault, master
from service.domains import catalog, reference
from service.guardrail import Rooms
from service.settings import Settings
from service.vocabulary.decision import ModelStory
from service.world.cases import CasesWorldModel
from service.world.checkpoint import Checkpoint, DomainStory, Manifest, opened
from service.world.codec import Codec
from service.world.instruct import Instructed
from service.world.model import WorldModel
from service.world.scripted import Line, ScriptedWorldModel
from service.world.step import Form, Marked

STOCK_S = 5.0
"""How often a bank that was not there at the start is asked again whether it can be filled."""


@dataclass(frozen=True, slots=True)
class House:
    """The rooms, and what is known of the world model."""

    rooms: Rooms
    stories: Mapping[str, DomainStory]
    model: ModelStory
    sealed_by: str = ""
    """Tells the secret that free text is sealed under from any other."""
    stocked: bool = True


async def furnish(settings: Settings, now: datetime) -> House:
    """The adapters that the settings ask for. Raises `BadCheckpoint`, `AnchorBankUnavailable` when one cannot be had."""
    settings.data.mkdir(parents=True, exist_ok=True)
    local = await asyncio.to_thread(Checkpoint, settings.checkpoint) if settings.world == "local" else None
    served = await asyncio.to_thread(_served, settings) if settings.world == "vllm" else None
    bank = await _bank(settings)
    stand_in = CasesWorldModel(bank)
    world = await _world(settings, local, served) or stand_in
    vault, ring = open_vault(settings), signing_keys(settings, now)
    rooms = Rooms(world, stand_in, bank, open_ledger(settings, ring, vault))
    manifest = local.manifest if local else served[0] if served else None
    told = {"checkpoint": manifest.name, "codec": manifest.codec} if manifest else {}
    model = ModelStory(**{"checkpoint": "", "codec": ""} | told, engine=world.name, policy="1", anchors=bank.name)
    return House(rooms, manifest.domains if manifest else {}, model, vault.fingerprint, await stocked(bank, settings))


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


def _served(settings: Settings) -> tuple[Manifest, Form]:
    """The story that servers are held to, and how the model is asked."""
    if settings.vllm_form == "instructed":
        return opened(settings.checkpoint, lambda told: Instructed(told, catalog().values()))
    manifest, codec = opened(settings.checkpoint, Codec)
    return manifest, Marked(codec)


async def _world(
    settings: Settings, local: Checkpoint | None, served: tuple[Manifest, Form] | None
) -> WorldModel | None:
    """None where recorded cases are all there is."""
    if settings.world == "scripted":
        return ScriptedWorldModel([Line("")], latency=settings.scripted_latency_ms / 1000)
    if local:
        return await asyncio.to_thread(_local, local, settings.threads)
    if not served:
        return None
    from service.world.vllm import VllmWorldModel

    models = {name: settings.vllm_model.format(domain=name) for name in catalog()}
    manifest, form = served
    return await VllmWorldModel.connect(form, manifest, models, settings.vllm_urls, settings.vllm_api_key)


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
