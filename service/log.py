"""One line of JSON for each thing that happened: ids and enums, never what anybody wrote."""

import hashlib
import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from service.vocabulary.decision import Decision

NAME = "premortem"
PLAIN_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
"""A UUID or a trace id. Anything shorter or of digits and dashes could be a telephone's number, or a card's."""
FIELDS = "fields"


class JsonLines(logging.Formatter):
    """Time, level, logger, message, and what was given as `extra={"fields": ...}`; of an exception its type and place, not its text."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[0]:
            trace = record.exc_info[2]
            while trace and trace.tb_next:
                trace = trace.tb_next
            told["error"] = record.exc_info[0].__name__
            told["where"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        return json.dumps(told, ensure_ascii=False)


class StandardError(logging.Handler):
    """Whatever that is when something is said."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def log_json(level: str) -> None:
    """All loggers of this process, uvicorn's included, onto the standard error."""
    handler = StandardError()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def log_decision(decision: Decision, took_s: float) -> None:
    logging.getLogger(NAME).info(
        "decided",
        extra={
            FIELDS: {
                "decision_id": decision.decision_id,
                "correlation": correlation(decision.proposal.asker.correlation_id),
                "domain": decision.domain,
                "ruling": decision.ruling,
                "reason": decision.reason,
                "basis": decision.basis,
                "mode": decision.mode,
                "took_ms": round(took_s * 1000, 1),
            }
        },
    )


def correlation(told: str) -> str:
    """The caller's id as it is if it is an id in form; of anything else a hash, which the caller can make as well."""
    if not told or PLAIN_ID.fullmatch(told):
        return told
    return f"sha256:{hashlib.sha256(told.encode()).hexdigest()[:16]}"
