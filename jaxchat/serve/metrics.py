"""What Prometheus reads at /metrics. No label is a client's to choose, so their number is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jaxchat.serve.guard import Guard
from jaxchat.serve.served import Served

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One server's, in a registry of its own."""

    def __init__(self, models: Mapping[str, Served], guard: Guard) -> None:
        self._registry = CollectorRegistry()
        by = self._registry
        self.requests = Counter("jaxchat_requests", "Requests answered.", ["route", "status"], registry=by)
        self.seconds = Histogram(
            "jaxchat_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=by,
        )
        self.first_token = Histogram(
            "jaxchat_first_token_seconds",
            "From a request to its first token.",
            ["model"],
            buckets=_SECONDS,
            registry=by,
        )
        self.tokens = Counter("jaxchat_tokens", "Tokens read and written.", ["model", "kind"], registry=by)
        self.open = Gauge("jaxchat_requests_open", "Requests being answered.", registry=by)
        self._registry.register(_Others(models, guard))

    def page(self) -> bytes:
        return generate_latest(self._registry)


class _Others:
    """Numbers that the engines and the guard keep themselves, read when they are asked for."""

    def __init__(self, models: Mapping[str, Served], guard: Guard) -> None:
        self._models, self._guard = models, guard

    def collect(self) -> Iterable[Metric]:
        gauges = {
            "slots": GaugeMetricFamily("jaxchat_slots", "Answers that can be written at once.", labels=["model"]),
            "busy": GaugeMetricFamily("jaxchat_slots_busy", "Answers being written.", labels=["model"]),
            "waiting": GaugeMetricFamily("jaxchat_waiting", "Requests in the queue.", labels=["model"]),
        }
        reused = CounterMetricFamily(
            "jaxchat_reused_tokens", "Tokens of prompts that had been read before.", labels=["model"]
        )
        finished = CounterMetricFamily("jaxchat_answers", "Answers by how they ended.", labels=["model", "reason"])
        for name, model in self._models.items():
            stats: Any = model.engine.stats()
            for field, gauge in gauges.items():
                gauge.add_metric([name], getattr(stats, field))
            reused.add_metric([name], stats.reused_tokens)
            for reason, count in stats.finished.items():
                finished.add_metric([name, reason], count)
        guarded = CounterMetricFamily("jaxchat_guarded", "What the guard found.", labels=["rule"])
        for rule, count in list(self._guard.counts.items()):
            guarded.add_metric([rule], count)
        return [*gauges.values(), reused, finished, guarded]
