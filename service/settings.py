"""Everything an operator may set, read once. Environment: PREMORTEM_*; what is secret may be a file of that name in SECRETS."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.vocabulary.setting import Setting

ROOT = Path(__file__).resolve().parents[1]
SECRETS = Path("/run/secrets")
"""Where Docker and Kubernetes put them. The environment wins."""
SECTIONS = {
    "host": "Server",
    "world": "World model",
    "candidate": "Traffic split",
    "anchors_url": "Recorded history",
    "ledger_url": "Ledger",
    "authentication": "Identity",
    "permit_issuer": "Permits",
    "disabled_domains": "Domains",
    "otlp_endpoint": "Logs and traces",
    "max_body_bytes": "Limits of a body",
    "in_flight": "Admission",
}
"""Of the page, each by the setting that it begins with."""
ESCALATES = "everything of consequence escalates (`world_model_unavailable`)"


class Settings(BaseSettings):
    """Contradictions are refused at start. `python -m service settings` writes all of it out for people."""

    model_config = SettingsConfigDict(
        env_prefix="PREMORTEM_", frozen=True, extra="forbid", secrets_dir=SECRETS if SECRETS.is_dir() else None
    )

    host: Annotated[
        str,
        Setting(
            "The address to listen on",
            "Not this machine's: it does not start. Beyond the loopback address `AUTHENTICATION` must be on",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(ge=0, le=65_535),
        Setting("The port to listen on; 0: any that is free", "Taken: it does not start", "TCP port"),
    ] = 8000
    data: Annotated[
        Path,
        Setting(
            "The folder of ledger, keys, secret, anchors and caches; one process owns it",
            "Another folder: other keys (401), another ledger, and a secret that opens nothing of the old one",
        ),
    ] = Path("premortem-data")
    threads: Annotated[
        int,
        Field(ge=1, le=64),
        Setting(
            "Threads of the local world model and of the sentence encoder; 1 is fastest up to two cores",
            "More than there are cores: slow answers, futures cut short",
            "threads",
        ),
    ] = 1
    drain_s: Annotated[
        float,
        Field(ge=0, le=60),
        Setting(
            "From SIGTERM on, how long it is reachable though unready",
            "Shorter than balancers take to notice: requests are refused at every restart",
            "seconds",
        ),
    ] = 2.0
    world: Annotated[
        Literal["local", "vllm", "cases", "scripted"],
        Setting(
            "What imagines: the checkpoint in process, or served by vLLM; recorded cases and no model; or nothing at all "
            "(`scripted`: for load tests, on the loopback address alone)",
            "`vllm` can be down by itself. `cases` is the baseline that every checkpoint must beat. `scripted` foresees nothing",
        ),
    ] = "local"
    checkpoint: Annotated[
        Path,
        Setting(
            "The folder of weights, tokenizer and manifest; with `vllm`, what servers are held to",
            "A file that is not as its manifest says: it does not start. Other weights miss other harm: see their REPORT.md",
        ),
    ] = ROOT / "models" / "checkpoints" / "mini"
    vllm_urls: Annotated[
        tuple[str, ...],
        NoDecode,
        Setting("vLLM servers; futures go on at another when one dies", f"With none left that answers, {ESCALATES}"),
    ] = ()
    vllm_model: Annotated[
        str,
        Setting(
            "The served model's name; `{domain}` in it stands for an adapter by domain",
            f"A name that is not served: unready, and {ESCALATES}",
        ),
    ] = "world"
    vllm_api_key: Annotated[str, Setting("The servers' key", "Wrong: as a server that is down", secret=True)] = ""
    vllm_form: Annotated[
        Literal["marked", "instructed"],
        Setting(
            "`instructed`: an instruct model as it is, asked for JSON",
            "`instructed`: until the model is measured it approves nothing (`unfamiliar_situation`); more futures cannot be read",
        ),
    ] = "marked"
    scripted_latency_ms: Annotated[
        float, Field(ge=0), Setting("What the scripted world takes for a step", f"Beyond the budget, {ESCALATES}", "ms")
    ] = 0.0
    candidate: Annotated[
        Path | None,
        Setting(
            "The folder of a second checkpoint, asked in place of the first for a share of all proposals",
            "Of another name than the first, and measured in every domain, or it does not start. Down: `/readyz` says so and "
            f"stays 200; of its share {ESCALATES}",
        ),
    ] = None
    candidate_share: Annotated[
        float,
        Field(ge=0, le=1),
        Setting(
            "How much of all proposals it gets; the same proposal stays with the same checkpoint, also when this is raised",
            "Higher: more rulings rest on a checkpoint that has not proven itself here",
            "share",
        ),
    ] = 0.0
    candidate_vllm_urls: Annotated[
        tuple[str, ...],
        NoDecode,
        Setting("Its servers, with the same key and form", "As `VLLM_URLS`, for its share alone"),
    ] = ()
    candidate_vllm_model: Annotated[
        str, Setting("As `VLLM_MODEL`, on its servers", "As `VLLM_MODEL`, for its share alone")
    ] = "world"
    anchors_url: Annotated[
        str,
        Setting(
            "A Qdrant server; empty: Qdrant Edge in process",
            "Down: no precedents, futures not grounded, and what is not approved for another reason is `unfamiliar_situation`",
        ),
    ] = ""
    anchors_api_key: Annotated[
        str, Setting("The Qdrant server's key", "Wrong: as a server that is down", secret=True)
    ] = ""
    bundled_history: Annotated[
        int,
        Field(ge=0, le=100_000),
        Setting(
            "Reference trajectories of each domain to index at first start",
            "Fewer: more `unfamiliar_situation`. More: a longer first start",
            "trajectories",
        ),
    ] = 3_000
    ledger_url: Annotated[
        str,
        Setting(
            "A Redis that keeps what it acknowledges, with its password; empty: SQLite in `DATA`",
            "Down, full or set to forget: 503, for an unrecorded approval is no approval",
            secret=True,
        ),
    ] = ""
    ledger_vouched: Annotated[
        bool,
        Setting(
            "You answer for a Redis that does not say how it keeps what it is told",
            "On: acknowledged decisions may be lost in a power cut, and the audit chain's end with them: it is yours to answer for",
        ),
    ] = False
    authentication: Annotated[
        bool,
        Setting(
            "Whether callers need a key or a token",
            "Off: no 401 and no 403, everyone may do everything; on the loopback address alone",
        ),
    ] = True
    oidc_issuer: Annotated[
        str,
        Setting(
            "An identity provider whose tokens are credentials; empty: keys alone",
            "Down when a key of its is needed: 503 for its tokens; keys go on working",
        ),
    ] = ""
    oidc_audience: Annotated[
        str, Field(min_length=1), Setting("Whom its tokens must be for", "Wrong: 401 for all of its tokens")
    ] = "premortem"
    oidc_jwks_url: Annotated[
        str,
        Setting(
            "Where its signing keys are; empty: by discovery",
            "Wrong: 503 for its tokens, or 401 where other keys are found there",
        ),
    ] = ""
    oidc_algorithms: Annotated[
        tuple[str, ...],
        NoDecode,
        Setting(
            "What its tokens may be signed with; asymmetric alone", "Without the one it uses: 401 for all of its tokens"
        ),
    ] = ("RS256", "ES256", "EdDSA")
    oidc_roles_claim: Annotated[
        str,
        Setting(
            "Where roles stand in a token; may be a path: `realm_access.roles`",
            "Wrong: 403, for its callers have no role",
        ),
    ] = "roles"
    oidc_tenant_claim: Annotated[str, Setting("Where the tenant stands in a token", "Missing in a token: 401")] = (
        "tenant"
    )
    oidc_tenant: Annotated[
        str,
        Setting(
            "Everyone of this provider is of this tenant, whatever the token says",
            "Set for a provider of several tenants: each sees what is the others'",
        ),
    ] = ""
    oidc_leeway_s: Annotated[
        int,
        Field(ge=0, le=300),
        Setting(
            "How far apart its clock and ours may be",
            "Less than they are: 401 for fresh tokens. More: tokens that ended are good for longer",
            "seconds",
        ),
    ] = 30
    permit_issuer: Annotated[
        str,
        Field(min_length=1),
        Setting(
            "Whom executors trust: best a URL", "Changed: executors refuse what they do not know, until they are told"
        ),
    ] = "premortem"
    permit_audience: Annotated[
        str,
        Field(min_length=1),
        Setting(
            "The executors that permits are for",
            "As `PERMIT_ISSUER`; one for several kinds of executors: each takes the others' permits",
        ),
    ] = "executor"
    disabled_domains: Annotated[
        frozenset[str],
        Setting(
            "Domains that are switched off until the next start; others are switched while it runs",
            "Everything in them escalates (`disabled_by_operator`) and gets no permit. A name that is no domain switches nothing off",
        ),
    ] = frozenset()
    policies: Annotated[
        Path | None,
        Setting(
            "A folder of policy files, `<domain>.yaml`, taken again whenever they change; none: as the domains ship",
            "A file that cannot be taken: it does not start, or the old policies stay in force (an alert says so)",
        ),
    ] = None
    shadow_ms: Annotated[
        float,
        Field(ge=1, le=30_000),
        Setting(
            "The longest that a caller waits for an answer on a kind of action in shadow mode",
            "Shorter: more answers without the ruling (202). Longer: agents wait for what binds nobody",
            "ms",
        ),
    ] = 50.0
    otlp_endpoint: Annotated[
        str,
        Setting(
            "Where traces go (OTLP over HTTP, with /v1/traces); needs the extra `tracing`",
            "None: without its collector spans are lost, and no answer waits for it",
        ),
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Setting("The least of what is logged; decisions are `info`", "None; above `info` no decision is in the log"),
    ] = "info"
    max_body_bytes: Annotated[int, Field(ge=1_024), Setting("The largest body", "A larger one gets 413", "bytes")] = (
        256 * 1024
    )
    max_depth: Annotated[
        int, Field(ge=4, le=200), Setting("Objects and lists within one another", "A deeper body gets 413", "levels")
    ] = 32
    max_items: Annotated[
        int,
        Field(ge=100),
        Setting(
            "Members and items of a body; no domain's largest state has half as many",
            "A body of more gets 413",
            "items",
        ),
    ] = 5_000
    in_flight: Annotated[
        int,
        Field(ge=1, le=4_096),
        Setting(
            "Evaluations simulated at once in the beginning; how many are good is then found out, again and again",
            "Higher: the first answers of a crowd are late or cut short. Lower: it waits, and is given fewer futures",
            "evaluations",
        ),
    ] = 4
    max_in_flight: Annotated[
        int,
        Field(ge=1, le=4_096),
        Setting(
            "Evaluations simulated at once at most, whatever is found",
            "Lower: less memory, more `history_only` and 503. Higher: nothing, until that many are found to be good",
            "evaluations",
        ),
    ] = 256

    @field_validator("vllm_urls", "candidate_vllm_urls", "oidc_algorithms", mode="before")
    @classmethod
    def _listed(cls, told: Any) -> Any:
        return tuple(each.strip() for each in told.split(",") if each.strip()) if isinstance(told, str) else told

    @field_validator("candidate", mode="before")
    @classmethod
    def _absent(cls, told: Any) -> Any:
        return told or None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.in_flight > self.max_in_flight:
            raise ValueError("in_flight <= max_in_flight")
        loopback = self.host in ("127.0.0.1", "::1", "localhost")
        if self.world == "vllm" and not self.vllm_urls:
            raise ValueError("world vllm needs vllm_urls")
        if self.vllm_form == "instructed" and self.world != "vllm":
            raise ValueError("vllm_form instructed needs world vllm")
        if self.candidate is None and (self.candidate_share or self.candidate_vllm_urls):
            raise ValueError("candidate_share and candidate_vllm_urls need a candidate")
        if self.candidate and self.world not in ("local", "vllm"):
            raise ValueError("a candidate needs world local or vllm")
        if self.candidate and (self.world == "vllm") is not bool(self.candidate_vllm_urls):
            raise ValueError("a candidate needs candidate_vllm_urls with world vllm, and has none with world local")
        if self.world == "scripted" and not loopback:
            raise ValueError("the scripted world foresees nothing: on the loopback address alone")
        if not self.authentication and not loopback:
            raise ValueError("authentication may only be off on the loopback address")
        return self
