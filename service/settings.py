"""Everything an operator may set, read once. Environment: PREMORTEM_*; what is secret may be a file of that name in SECRETS."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[1]
SECRETS = Path("/run/secrets")
"""Where Docker and Kubernetes put them. The environment wins."""


class Settings(BaseSettings):
    """Contradictions are refused at start."""

    model_config = SettingsConfigDict(
        env_prefix="PREMORTEM_", frozen=True, extra="forbid", secrets_dir=SECRETS if SECRETS.is_dir() else None
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    data: Path = Field(default=Path("premortem-data"), description="Ledger, keys, anchors and caches")
    checkpoint: Path = ROOT / "models" / "checkpoints" / "mini"
    world: Literal["local", "vllm", "cases", "scripted"] = Field(
        default="local", description="scripted foresees nothing: for load tests, on the loopback address alone"
    )
    vllm_urls: Annotated[tuple[str, ...], NoDecode] = Field(default=(), description="vLLM servers, by comma")
    vllm_model: str = Field(
        default="world", description="The served model's name; `{domain}` in it stands for an adapter by domain"
    )
    vllm_api_key: str = ""
    vllm_form: Literal["marked", "instructed"] = Field(
        default="marked",
        description="instructed: an instruct model as it is, asked for JSON; measure it before it may approve",
    )
    scripted_latency_ms: float = Field(default=0.0, ge=0, description="What the scripted world takes for a step")
    threads: int = Field(
        default=1, ge=1, le=64, description="Engine threads of the local world model; one is fastest up to two cores"
    )
    anchors_url: str = Field(default="", description="A Qdrant server; empty: Qdrant Edge in process")
    anchors_api_key: str = ""
    ledger_url: str = Field(default="", description="A Redis that keeps what it acknowledges; empty: SQLite in `data`")
    ledger_vouched: bool = Field(
        default=False, description="The operator answers for the Redis: it does not say how it keeps what it is told"
    )
    bundled_history: int = Field(
        default=3_000, ge=0, le=100_000, description="Reference trajectories a domain to index at first start"
    )
    authentication: bool = True
    oidc_issuer: str = Field(
        default="", description="An identity provider whose tokens are credentials; empty: keys alone"
    )
    oidc_audience: str = Field(default="premortem", min_length=1, description="Whom its tokens must be for")
    oidc_jwks_url: str = Field(default="", description="Where its keys are; empty: by discovery")
    oidc_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("RS256", "ES256", "EdDSA"),
        description="What its tokens may be signed with, by comma; asymmetric alone",
    )
    oidc_roles_claim: str = Field(default="roles", description="Where roles stand; may be a path: realm_access.roles")
    oidc_tenant_claim: str = "tenant"
    oidc_tenant: str = Field(
        default="", description="Everyone of this provider is of this tenant, whatever the token says"
    )
    oidc_leeway_s: int = Field(
        default=30, ge=0, le=300, description="How far apart its clock and ours may be, in seconds"
    )
    permit_issuer: str = Field(default="premortem", min_length=1, description="Whom executors trust: best a URL")
    permit_audience: str = Field(default="executor", min_length=1, description="The executors that permits are for")
    otlp_endpoint: str = Field(
        default="", description="Where traces go (OTLP over HTTP, with /v1/traces); needs the extra `tracing`"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    disabled_domains: frozenset[str] = frozenset()
    policies: Path | None = Field(
        default=None, description="A folder of DOMAIN.yaml, read anew when it changes; unset: the policies that ship"
    )
    shadow_ms: float = Field(
        default=50.0, ge=1, le=30_000, description="Within which a proposal in shadow mode is answered, decided or not"
    )
    drain_s: float = Field(
        default=2.0,
        ge=0,
        le=60,
        description="From SIGTERM on, how long it is reachable though unready: balancers must notice",
    )
    max_body_bytes: int = Field(default=256 * 1024, ge=1_024)
    max_depth: int = Field(default=32, ge=4, le=200)
    max_items: int = Field(
        default=5_000, ge=100, description="Members and items of a body; no domain's largest state has half as many"
    )
    in_flight: int = Field(
        default=4, ge=1, le=4_096, description="Evaluations simulated at once in the beginning; the limit is then found"
    )
    max_in_flight: int = Field(default=256, ge=1, le=4_096, description="... at most, whatever is found")

    @field_validator("vllm_urls", "oidc_algorithms", mode="before")
    @classmethod
    def _listed(cls, told: Any) -> Any:
        return tuple(each.strip() for each in told.split(",") if each.strip()) if isinstance(told, str) else told

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.in_flight > self.max_in_flight:
            raise ValueError("in_flight <= max_in_flight")
        loopback = self.host in ("127.0.0.1", "::1", "localhost")
        if self.world == "vllm" and not self.vllm_urls:
            raise ValueError("world vllm needs vllm_urls")
        if self.vllm_form == "instructed" and self.world != "vllm":
            raise ValueError("vllm_form instructed needs world vllm")
        if self.world == "scripted" and not loopback:
            raise ValueError("the scripted world foresees nothing: on the loopback address alone")
        if not self.authentication and not loopback:
            raise ValueError("authentication may only be off on the loopback address")
        return self
