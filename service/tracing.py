"""OpenTelemetry, where it is installed and somebody collects: a span for an evaluation, and one for each of its stages."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from service.metrics import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor


def spans(processor: "SpanProcessor") -> Span:
    """No span holds anything that a caller wrote."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource.create({"service.name": "premortem"}))
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("premortem")

    def span(name: str) -> AbstractContextManager[object]:
        return tracer.start_as_current_span(f"premortem.{name}", record_exception=False, set_status_on_exception=False)

    return span


def exporting(endpoint: str) -> Span:
    """To a collector's OTLP/HTTP endpoint, in batches, off the request path."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return spans(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
