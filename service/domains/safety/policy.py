"""How much risk a site tolerates, and which limits it works to."""

from service.vocabulary.severity import Severity
from service.vocabulary.verdict import RiskPolicy

POLICY = RiskPolicy(
    threshold=0.3,
    critical_threshold=0.10,
    adverse_from=Severity.minor,
    rollouts=5,
    max_rollouts=20,
    horizon=5,
    anchor_interval=4,
    quorum=3,
    budget_ms=800,
    temperature=0.8,
    approvals_required=2,
)

SAFE_KINDS = frozenset(
    ["inspect", "observe", "report", "postpone", "stop_work", "brief", "hydrate_and_rest"]
    + ["ask", "wait", "monitor", "document", "look_up", "evacuate", "call_emergency"]
)

CRANE_WIND_MPH, CRANE_SOURCE = 20.0, "ASME B30.5 / manufacturer's wind limit (default 20 mph)"
WORK_WIND_MPH, WORK_WIND_SOURCE = 30.0, "OSHA 29 CFR 1926.968 (high wind, material handling)"
HEAT_CAUTION_C, HEAT_DANGER_C = 32.8, 39.4
HEAT_SOURCE = "OSHA/NIOSH heat index (91 F moderate, 103 F high)"
SHIFT_HOURS, SHIFT_SOURCE = 10.0, "HSE HSG256 (fatigue: 8 h, at most 12 h)"
BREAK_MINUTES, BREAK_SOURCE = 240.0, "HSE HSG256 (a break at least every 4 h)"
FALL_FEET, FALL_SOURCE = 6.0, "OSHA 29 CFR 1926.501"
TRENCH_FEET, TRENCH_SOURCE = 5.0, "OSHA 29 CFR 1926.652"
CONFINED_SOURCE = "OSHA 29 CFR 1926.1204"
LOCKOUT_SOURCE = "OSHA 29 CFR 1926.417"
VISIBILITY_M, VISIBILITY_SOURCE = 100.0, "site rule: operators must see 100 m or have a spotter (OSHA 1926.601)"
