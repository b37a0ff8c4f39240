"""Every instrument, in one list. Labels are bounded: domains, parts, servers and enums; never a caller, an id or a text."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.deadline import Clock, Deadline
from service.vocabulary.anchor import Match
from service.vocabulary.decision import Decision, ModelStory, OverrideRuling
from service.vocabulary.rollout import Ending, Rollout
from service.vocabulary.severity import Severity
from service.vocabulary.verdict import Reason, Ruling
from service.window import Reliability, Shift

CONTENT = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
"""0.8 s is the budget that most domains answer within; a caller may ask for up to 30 s."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
ALIKE = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
HUMAN_S = (1, 2, 3, 5, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)
DAYS = (1, 7, 30, 90, 180, 365, 545, 730, 1_095, 1_825, 3_650)
RUBBER_STAMP_S = 3.0
"""Nobody reads the evidence in less."""
DAY_S = 86_400.0
GATED = (Reason.disabled_by_operator, Reason.hard_rule, Reason.not_high_impact)
"""No world model was asked."""

Span = Callable[[str], AbstractContextManager[object]]
"""Opens one of a trace."""


def no_span(_: str) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(eq=False)
class Metrics:
    """Counted in this process since it started; Prometheus adds the processes up."""

    clock: Clock
    span: Span = no_span
    registry: CollectorRegistry = field(default_factory=lambda: CollectorRegistry(auto_describe=True))

    def __post_init__(self) -> None:
        kept = self.registry
        self.evaluations = Counter(
            "premortem_evaluations",
            "Evaluations that were answered with a decision",
            ("domain", "ruling", "reason", "basis", "mode"),
            registry=kept,
        )
        self.checkpoints = Counter(
            "premortem_checkpoint_evaluations",
            "Those that took a world model, by the checkpoint they were given to",
            ("domain", "checkpoint", "ruling"),
            registry=kept,
        )
        self.latency = Histogram(
            "premortem_evaluation_seconds",
            "From admission to the answer or the failure",
            ("domain",),
            buckets=SECONDS,
            registry=kept,
        )
        self.stages = Histogram(
            "premortem_stage_seconds",
            "Of an evaluation: queue, anchors, simulate, judge, record",
            ("stage",),
            buckets=SECONDS,
            registry=kept,
        )
        self.late = Counter(
            "premortem_late_evaluations", "That ended after their own budget", ("domain",), registry=kept
        )
        self.futures = Counter(
            "premortem_futures", "Simulated futures, by how they ended", ("domain", "ending"), registry=kept
        )
        self.tokens = Counter("premortem_tokens", "Written by the world model", ("domain",), registry=kept)
        self.steps = Counter("premortem_steps", "Simulated steps", ("domain",), registry=kept)
        self.spared = Counter(
            "premortem_spared_steps",
            "Steps not simulated, because no future could change the verdict",
            ("domain",),
            registry=kept,
        )
        self.risk = Histogram(
            "premortem_adverse_probability",
            "Calibrated risk of what was simulated",
            ("domain",),
            buckets=SHARES,
            registry=kept,
        )
        self.width = Histogram(
            "premortem_interval_width", "Of the risk's 90 % interval", ("domain",), buckets=SHARES, registry=kept
        )
        self.mass = Histogram(
            "premortem_label_mass",
            "Probability that the world model puts on outcomes where one is due",
            ("domain",),
            buckets=(0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0),
            registry=kept,
        )
        self.recalls = Counter(
            "premortem_anchor_recalls",
            "Recalls of history: hit, miss or unavailable",
            ("domain", "result"),
            registry=kept,
        )
        self.grounded = Counter(
            "premortem_grounded_steps", "Simulated steps grounded in a real state", ("domain",), registry=kept
        )
        self.similarity = Histogram(
            "premortem_anchor_similarity", "Of the recorded case most alike", ("domain",), buckets=ALIKE, registry=kept
        )
        self.staleness = Histogram(
            "premortem_anchor_age_days", "Of the recorded case most alike", ("domain",), buckets=DAYS, registry=kept
        )
        self.overrides = Counter(
            "premortem_overrides", "Rulings on decisions", ("domain", "ruling", "code"), registry=kept
        )
        self.considered = Histogram(
            "premortem_override_seconds",
            "From an escalation to a person's ruling on it",
            ("domain",),
            buckets=HUMAN_S,
            registry=kept,
        )
        self.stamped = Counter(
            "premortem_rubber_stamps",
            f"Approving overrides in less than {RUBBER_STAMP_S:g} seconds",
            ("domain",),
            registry=kept,
        )
        self.pending = Gauge("premortem_pending_escalations", "That wait for a person", registry=kept)
        self.expired = Counter(
            "premortem_expired_escalations", "On which nobody ruled in time", ("domain",), registry=kept
        )
        self.outcomes = Counter(
            "premortem_outcomes", "Outcomes that were reported", ("domain", "ruling", "severity"), registry=kept
        )
        self.expected = Counter(
            "premortem_expected_adverse_outcomes",
            "Of the simulated approvals whose outcome was reported, how many their own risks foretold",
            ("domain",),
            registry=kept,
        )
        self.missed = Counter(
            "premortem_missed_adverse_outcomes",
            "Reported after an approval that was simulated",
            ("domain",),
            registry=kept,
        )
        self.calibration = Gauge(
            "premortem_calibration_error",
            "Expected calibration error of the last 500 reported",
            ("domain",),
            registry=kept,
        )
        self.drift = Gauge(
            "premortem_risk_drift",
            "Population stability index of the last 500 risks against the 500 before",
            ("domain",),
            registry=kept,
        )
        self.shadows = Counter(
            "premortem_shadow",
            "Proposals in shadow mode: decided within the caller's bound, after it, or never",
            ("result",),
            registry=kept,
        )
        self.policy = Info("premortem_policy", "The policy in force", ("domain",), registry=kept)
        self.policies_refused = Gauge(
            "premortem_policy_files_refused",
            "Whether the policy files, as they are now, are not in force",
            registry=kept,
        )
        self.off = Gauge("premortem_switches_off", "Thrown by an operator, of all tenants", ("target",), registry=kept)
        self.in_flight = Gauge("premortem_evaluations_in_flight", "Evaluations under way", registry=kept)
        self.admissions = Counter(
            "premortem_admissions", "By what was promised: full, quorum, history, refused", ("effort",), registry=kept
        )
        self.admitted_limit = Gauge(
            "premortem_admission_limit", "Evaluations that may be simulated at once, as found lately", registry=kept
        )
        self.waiting = Gauge("premortem_admission_queue", "Evaluations that wait to be simulated", registry=kept)
        self.breakers = Gauge(
            "premortem_breaker_open", "Whether a world model's server is left alone", ("server",), registry=kept
        )
        self.up = Gauge(
            "premortem_part_up", "Whether a part could do its work when it was last asked", ("part",), registry=kept
        )
        self.problems = Counter(
            "premortem_problems", "Requests that were refused or failed", ("status",), registry=kept
        )
        self.build = Info("premortem_build", "Checkpoint, codec and anchors in use", ("role",), registry=kept)
        self._reliability: dict[str, Reliability] = {}
        self._shift: dict[str, Shift] = {}

    def exposed(self) -> bytes:
        """OpenMetrics, which Prometheus asks for."""
        told: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return told

    def told(self, models: Mapping[str, ModelStory], domains: Iterable[str], efforts: Iterable[str]) -> None:
        """What is known from the start; a count that is there at zero shows its first increase. `models` are by role."""
        for role, model in models.items():
            self.build.labels(role).info(model.model_dump(exclude={"policy"}))
            for domain, ruling in product(domains, Ruling):
                self.checkpoints.labels(domain, model.checkpoint, ruling)
        by_domain = (self.late, self.tokens, self.steps, self.spared, self.grounded, self.stamped, self.expired)
        for counter in (*by_domain, self.missed, self.expected):
            for domain in domains:
                counter.labels(domain)
        for effort in (*efforts, "refused"):
            self.admissions.labels(effort)
        for result in ("answered", "late", "lost"):
            self.shadows.labels(result)
        for status in (500, 503):
            self.problems.labels(status)

    @contextmanager
    def evaluating(self, domain: str, until: Deadline) -> Iterator[None]:
        """One evaluation, under way until it is answered or fails."""
        with self.in_flight.track_inprogress(), self.span("evaluation"):
            began = self.clock()
            try:
                yield
            finally:
                self.latency.labels(domain).observe(self.clock() - began)
                if not until.left:
                    self.late.labels(domain).inc()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        with self.span(name):
            began = self.clock()
            try:
                yield
            finally:
                self.stages.labels(name).observe(self.clock() - began)

    def recalled(self, domain: str, matches: Sequence[Match], failed: bool, now: datetime) -> None:
        self.recalls.labels(domain, "unavailable" if failed else "hit" if matches else "miss").inc()
        for best in matches[:1]:
            self.similarity.labels(domain).observe(best.similarity)
            self.staleness.labels(domain).observe((now - best.anchor.when).total_seconds() / DAY_S)

    def decided(self, decision: Decision, rollouts: Iterable[Rollout], horizon: int) -> None:
        """`rollouts` are those that the verdict rests on, of at most `horizon` steps."""
        name = decision.domain
        self.evaluations.labels(name, decision.ruling, decision.reason, decision.basis, decision.mode).inc()
        if decision.reason not in GATED:
            self.checkpoints.labels(name, decision.model.checkpoint, decision.ruling).inc()
        for rollout in rollouts:
            self.futures.labels(name, rollout.ending).inc()
            self.steps.labels(name).inc(len(rollout.steps))
            self.tokens.labels(name).inc(sum(step.tokens for step in rollout.steps))
            self.grounded.labels(name).inc(sum(step.grounded_by is not None for step in rollout.steps))
            if rollout.ending is Ending.settled:
                self.spared.labels(name).inc(horizon - len(rollout.steps))
            for step in rollout.steps[:1]:
                self.mass.labels(name).observe(step.mass)
        if decision.risk is not None:
            low, high = decision.risk.interval
            self.risk.labels(name).observe(decision.risk.adverse_probability)
            self.width.labels(name).observe(high - low)
            self._shifting(name).add(decision.risk.adverse_probability)

    def ruled(self, decision: Decision) -> None:
        """As it stands after a ruling: the last approval, if more are needed."""
        override = decision.overridden or (decision.approvals[-1] if decision.approvals else None)
        if override is None:
            return
        name, took = decision.domain, (override.at - decision.at).total_seconds()
        self.overrides.labels(name, override.ruling, override.code).inc()
        if override.ruling is OverrideRuling.expired:
            self.expired.labels(name).inc()
        if override.ruling in (OverrideRuling.approved, OverrideRuling.denied) and decision.override:
            self.considered.labels(name).observe(took)
            if override.ruling is OverrideRuling.approved and took < RUBBER_STAMP_S:
                self.stamped.labels(name).inc()

    def followed(self, decision: Decision, severity: Severity, adverse: bool) -> None:
        """What really happened after a decision."""
        name = decision.domain
        self.outcomes.labels(name, decision.ruling, severity.name).inc()
        if decision.risk is None:
            return
        if decision.ruling is Ruling.approve:
            self.expected.labels(name).inc(decision.risk.adverse_probability)
            self.missed.labels(name).inc(adverse)
        self._reliable(name).add(decision.risk.adverse_probability, adverse)

    def admitted(self, effort: str, waited: float) -> None:
        self.admissions.labels(effort).inc()
        self.stages.labels("queue").observe(waited)

    def stands(self, parts: Mapping[str, bool], servers: Mapping[str, str], limit: int, waiting: int) -> None:
        """What is so now, when it is looked at."""
        self.admitted_limit.set(limit)
        self.waiting.set(waiting)
        for part, well in parts.items():
            self.up.labels(part).set(well)
        for server, trouble in servers.items():
            self.breakers.labels(server).set(bool(trouble))

    def _shifting(self, domain: str) -> Shift:
        if domain not in self._shift:
            self._shift[domain] = Shift()
            self.drift.labels(domain).set_function(self._shift[domain].index)
        return self._shift[domain]

    def _reliable(self, domain: str) -> Reliability:
        if domain not in self._reliability:
            self._reliability[domain] = Reliability()
            self.calibration.labels(domain).set_function(self._reliability[domain].error)
        return self._reliability[domain]
