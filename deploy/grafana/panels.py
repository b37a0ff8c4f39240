"""What is asked of the service, and the queries that answer it: four dashboards, a panel a question."""

from dataclasses import dataclass

IN_DOMAIN = 'domain=~"$domain"'
SENT_ON = 'ruling="escalate"'
WAITS = f'{SENT_ON}, mode!="shadow"'
APPROVED = f'premortem_overrides_total{{{IN_DOMAIN}, ruling="approved"}}'


@dataclass(frozen=True)
class Panel:
    """`queries`: legend to expression. `limits`: from which value on it is yellow, and red."""

    question: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    limits: tuple[float, ...] = ()
    stacked: bool = False
    top: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    panels: tuple[Panel, ...]
    by_domain: bool = True


def rate(metric: str, by: str, where: str = IN_DOMAIN) -> str:
    told = f"(rate({metric}{_where(where)}[$__rate_interval]))"
    return f"sum by ({by}) {told}" if by else f"sum{told}"


def share(part: str, whole: str, by: str = "domain", over: str = "$__rate_interval") -> str:
    """Zero where nothing of the part was ever counted, nothing where there is no whole."""
    total = f"sum by ({by}) (increase({whole}[{over}]))"
    return f"(sum by ({by}) (increase({part}[{over}])) or 0 * {total}) / ({total} > 0)"


def quantile(q: float, metric: str, by: str = "domain", where: str = IN_DOMAIN) -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, where)})"


def of(metric: str, more: str = "") -> str:
    return metric + _where(f"{IN_DOMAIN}, {more}" if more else IN_DOMAIN)


def _where(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""


SERVICE = Dashboard(
    "premortem-service",
    "Premortem: service health",
    (
        Panel(
            "Which parts can do their work?", {"{{part}}": "min by (part) (premortem_part_up)"}, "bool_on_off", "stat"
        ),
        Panel(
            "How many instances answer?",
            {"answer": 'sum(up{job="premortem"})', "known": 'count(up{job="premortem"})'},
            kind="stat",
        ),
        Panel(
            "Which alerts fire?",
            {"{{alertname}}": 'count by (alertname) (ALERTS{alertname=~"Premortem.*", alertstate="firing"})'},
            note="What each means and what to do: deploy/runbook.md",
        ),
        Panel(
            "How many evaluations are answered?",
            {"{{domain}}": rate("premortem_evaluations_total", "domain", "")},
            "reqps",
            stacked=True,
        ),
        Panel(
            "How long does an answer take?",
            {f"p{q * 100:.0f}": quantile(q, "premortem_evaluation_seconds", "", "") for q in (0.5, 0.95, 0.99)},
            "s",
            limits=(0.6, 0.8),
            note="0.8 s is the budget of the domains that ship.",
        ),
        Panel(
            "Which stage takes the time?",
            {"{{stage}}, p95": quantile(0.95, "premortem_stage_seconds", "stage", "")},
            "s",
        ),
        Panel(
            "How fast is the allowance for late answers spent?",
            {"{{domain}}": "domain:premortem_late:ratio_rate1h / 0.01"},
            "none",
            limits=(1, 6),
            note="1: just as fast as one in a hundred allows. 14.4 for an hour or 6 for six hours pages.",
        ),
        Panel(
            "How fast is the allowance for missing evidence spent?",
            {"{{domain}}": "domain:premortem_without_evidence:ratio_rate1h / 0.01"},
            "none",
            limits=(1, 6),
            note="1: just as fast as one in a hundred allows. 14.4 for an hour or 6 for six hours pages.",
        ),
        Panel(
            "How much is promised at admission?",
            {"{{effort}}": rate("premortem_admissions_total", "effort", "")},
            "reqps",
            stacked=True,
        ),
        Panel(
            "How full is the service?",
            {
                "under way": "sum(premortem_evaluations_in_flight)",
                "limit": "sum(premortem_admission_limit)",
                "waiting": "sum(premortem_admission_queue)",
            },
        ),
        Panel("What is refused, or fails?", {"{{status}}": rate("premortem_problems_total", "status", "")}, "reqps"),
        Panel(
            "Which world model servers are left alone?",
            {"{{server}}": "max by (server) (premortem_breaker_open)"},
            "bool_yes_no",
            top=1,
        ),
        Panel("What is running?", {"{{engine}} {{checkpoint}}": "premortem_build_info"}, kind="table"),
    ),
    by_domain=False,
)

DECISIONS = Dashboard(
    "premortem-decisions",
    "Premortem: decisions and risk",
    (
        Panel(
            "What is ruled?",
            {"{{domain}}: {{ruling}}": rate("premortem_evaluations_total", "domain, ruling")},
            "reqps",
            stacked=True,
        ),
        Panel(
            "For which reasons?", {"{{reason}}": rate("premortem_evaluations_total", "reason")}, "reqps", stacked=True
        ),
        Panel(
            "What do rulings rest on?",
            {"{{basis}}": rate("premortem_evaluations_total", "basis")},
            "reqps",
            stacked=True,
        ),
        Panel(
            "What share is escalated?",
            {
                "{{domain}}": share(
                    of("premortem_evaluations_total", 'ruling="escalate"'), of("premortem_evaluations_total")
                )
            },
            "percentunit",
            top=1,
        ),
        Panel(
            "How are risks spread?",
            {"{{le}}": f"sum by (le) (increase({of('premortem_adverse_probability_bucket')}[$__rate_interval]))"},
            "percentunit",
            "heatmap",
        ),
        Panel(
            "How high is the risk?",
            {f"{{{{domain}}}}, p{q * 100:.0f}": quantile(q, "premortem_adverse_probability") for q in (0.5, 0.9)},
            "percentunit",
            top=1,
        ),
        Panel(
            "How wide is the risk's interval?",
            {f"{{{{domain}}}}, p{q * 100:.0f}": quantile(q, "premortem_interval_width") for q in (0.5, 0.9)},
            "percentunit",
            top=1,
        ),
        Panel("How do futures end?", {"{{ending}}": rate("premortem_futures_total", "ending")}, "ops", stacked=True),
        Panel(
            "How many tokens does an evaluation take?",
            {"{{domain}}": share(of("premortem_tokens_total"), of("premortem_adverse_probability_count"))},
        ),
        Panel(
            "How many steps does settling spare it?",
            {"{{domain}}": share(of("premortem_spared_steps_total"), of("premortem_adverse_probability_count"))},
        ),
        Panel(
            "What share is decided with something missing?",
            {
                "{{domain}}": share(
                    of("premortem_evaluations_total", 'mode="degraded"'), of("premortem_evaluations_total")
                )
            },
            "percentunit",
            limits=(0.05, 0.1),
            top=1,
        ),
        Panel(
            "What really followed?",
            {
                "{{ruling}}d, {{severity}}": "sum by (ruling, severity) "
                f"(increase({of('premortem_outcomes_total')}[1h]))"
            },
            note="Outcomes reported in the last hour, by what had been ruled.",
        ),
        Panel(
            "What becomes of shadows?",
            {"{{result}}": rate("premortem_shadow_total", "result", "")},
            "reqps",
            stacked=True,
            note="answered and late: recorded, within the caller's bound or after it. lost: never judged, enforced on nobody.",
        ),
        Panel(
            "Do the two checkpoints rule alike?",
            {
                "{{domain}}: {{checkpoint}} escalates": share(
                    of("premortem_checkpoint_evaluations_total", SENT_ON),
                    of("premortem_checkpoint_evaluations_total"),
                    "domain, checkpoint",
                )
            },
            "percentunit",
            top=1,
            note="Of what took a world model; two only where traffic is split (PREMORTEM_CANDIDATE).",
        ),
    ),
)

HONESTY = Dashboard(
    "premortem-honesty",
    "Premortem: the simulator's honesty",
    (
        Panel(
            "How far do risks lie from what followed?",
            {"{{domain}}": f"max by (domain) ({of('premortem_calibration_error')})"},
            "none",
            limits=(0.05, 0.1),
            note="Expected calibration error. Zero below 250 reports: see the next panel.",
        ),
        Panel(
            "On how many reports does that rest?", {"{{domain}}": f"sum by (domain) ({of('premortem_outcomes_total')})"}
        ),
        Panel(
            "Is it asked, or does it answer, otherwise than before?",
            {"{{domain}}": f"max by (domain) ({of('premortem_risk_drift')})"},
            "none",
            limits=(0.1, 0.25),
            note="Population stability index of risks: below 0.1 steady, above 0.25 another population. Below 1000 risks mostly noise.",
        ),
        Panel(
            "How often does harm follow an approval, and how often was it foretold?",
            {
                "{{domain}}": share(
                    of("premortem_missed_adverse_outcomes_total"),
                    of("premortem_outcomes_total", 'ruling="approve"'),
                    over="1d",
                ),
                "{{domain}}, foretold": share(
                    of("premortem_expected_adverse_outcomes_total"),
                    of("premortem_outcomes_total", 'ruling="approve"'),
                    over="1d",
                ),
            },
            "percentunit",
            limits=(0.05, 0.1),
        ),
        Panel(
            "What share of futures cannot be read?",
            {"{{domain}}": share(of("premortem_futures_total", 'ending="fault"'), of("premortem_futures_total"))},
            "percentunit",
            limits=(0.01, 0.05),
        ),
        Panel(
            "What share of futures runs out of time?",
            {"{{domain}}": share(of("premortem_futures_total", 'ending="deadline"'), of("premortem_futures_total"))},
            "percentunit",
            limits=(0.05, 0.2),
        ),
        Panel(
            "How often does it hesitate to name an outcome?",
            {"{{domain}}": share(of("premortem_label_mass_bucket", 'le="0.99"'), of("premortem_label_mass_count"))},
            "percentunit",
            limits=(0.01, 0.05),
            note="Share of first steps that put less than 99 % on outcomes.",
        ),
        Panel(
            "How often is a future grounded in a real state?",
            {"{{domain}}": share(of("premortem_grounded_steps_total"), of("premortem_steps_total"))},
            "percentunit",
            note="Share of simulated steps.",
        ),
        Panel(
            "How alike is the most alike recorded case?",
            {f"{{{{domain}}}}, p{q * 100:.0f}": quantile(q, "premortem_anchor_similarity") for q in (0.1, 0.5)},
            "none",
            top=1,
        ),
        Panel(
            "How old is the most alike recorded case?",
            {"{{domain}}, p50": quantile(0.5, "premortem_anchor_age_days")},
            "d",
        ),
        Panel(
            "Does recorded history answer?",
            {"{{result}}": rate("premortem_anchor_recalls_total", "result")},
            "reqps",
            stacked=True,
        ),
        Panel("Which checkpoint and codec answer?", {"{{checkpoint}}": "premortem_build_info"}, kind="table"),
        Panel("Which policies are in force?", {"{{domain}} {{policy}}": "premortem_policy_info"}, kind="table"),
    ),
)

SUPERVISORS = Dashboard(
    "premortem-supervisors",
    "Premortem: supervisors",
    (
        Panel(
            "How many escalations wait for a person?",
            {"waiting": "max(premortem_pending_escalations)"},
            limits=(20, 100),
        ),
        Panel(
            "How many come in an hour, and what becomes of them?",
            {
                "escalated": f"3600 * {rate('premortem_evaluations_total', '', f'{IN_DOMAIN}, {WAITS}')}",
                "ruled by a person": f"3600 * {rate('premortem_override_seconds_count', '')}",
                "expired": f"3600 * {rate('premortem_expired_escalations_total', '')}",
            },
        ),
        Panel(
            "Do people keep up?",
            {
                "{{domain}}": share(
                    of("premortem_override_seconds_count"),
                    of("premortem_evaluations_total", WAITS),
                    over="1h",
                )
            },
            "percentunit",
            note="Escalations ruled on by a person to escalations made, in the last hour.",
        ),
        Panel(
            "How do people rule?",
            {"{{domain}}: {{ruling}}": f"sum by (domain, ruling) (increase({of('premortem_overrides_total')}[1h]))"},
        ),
        Panel(
            "For which reasons?",
            {"{{ruling}}: {{code}}": f"sum by (ruling, code) (increase({of('premortem_overrides_total')}[1h]))"},
        ),
        Panel(
            "What share of escalations is approved after all?",
            {"{{domain}}": share(APPROVED, of("premortem_overrides_total", 'ruling=~"approved|denied"'), over="1d")},
            "percentunit",
            top=1,
        ),
        Panel(
            "How long does a ruling take?",
            {f"p{q * 100:.0f}": quantile(q, "premortem_override_seconds", "") for q in (0.1, 0.5, 0.9)},
            "s",
        ),
        Panel(
            "What share of approvals comes in less than three seconds?",
            {"{{domain}}": share(of("premortem_rubber_stamps_total"), APPROVED, over="1d")},
            "percentunit",
            limits=(0.1, 0.2),
            top=1,
        ),
        Panel(
            "On how many did nobody rule in time?",
            {"{{domain}}": f"sum by (domain) (increase({of('premortem_expired_escalations_total')}[1h]))"},
            limits=(1, 5),
        ),
        Panel("What is switched off now?", {"{{target}}": "max by (target) (premortem_switches_off)"}, limits=(1, 5)),
        Panel(
            "What followed where it had escalated?",
            {"{{severity}}": f"sum by (severity) (increase({of('premortem_outcomes_total', SENT_ON)}[1d]))"},
            note="Whether or not a person went ahead.",
        ),
    ),
)
ALL = (SERVICE, DECISIONS, HONESTY, SUPERVISORS)
