"""Counters for Prometheus. Labels hold names from models.ini and from this code alone, so they stay few."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

    from llmstack.router.call import Call
    from llmstack.swapper.base import ModelState

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_FIRST_BYTE_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What the router counts since it started.

    Args:
        states: gives the state of every tier, asked when somebody looks.
        in_flight: gives the number of requests being served.
    """

    def __init__(self, states: Callable[[], Mapping[str, ModelState]], in_flight: Callable[[], int]) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Callable[..., Counter]:
            # Cached: the library looks a counter up under a lock, with its labels made text again.
            return cache(Counter(f"llmstack_{name}", about, labels, registry=registry).labels)

        self._requests = counter("requests", "Requests that ended.", "tier", "outcome")
        self._decisions = counter("decisions", "Why a tier was chosen.", "tier", "rule")
        self._tokens = counter(
            "tokens",
            "Tokens as the servers counted them: prompt (cached ones included), cached, completion.",
            *("tier", "kind"),
        )
        self._cost = counter("cost_usd", "What hosted answers cost, as LiteLLM says.", "tier")
        self._errors = counter("errors", "Requests that failed.", "origin", "code")
        first_byte = Histogram(
            "llmstack_first_byte_seconds",
            "From a request's arrival to the first byte of its answer.",
            ("tier",),
            buckets=_FIRST_BYTE_S,
            registry=registry,
        )
        self._first_byte: Callable[..., Histogram] = cache(first_byte.labels)
        registry.register(_Now(states, in_flight))

    def ended(self, call: Call) -> None:
        """Count a request that ended."""
        tier = call.tier
        self._requests(tier, call.outcome).inc()
        self._decisions(tier, call.rule).inc()
        if call.outcome == "ok":
            if call.first_byte_s is not None:
                self._first_byte(tier).observe(call.first_byte_s)
        elif call.origin:
            self._errors(call.origin, call.outcome).inc()
        if call.usage is not None:
            self._tokens(tier, "prompt").inc(max(0, call.usage.prompt))
            self._tokens(tier, "cached").inc(max(0, call.usage.cached))
            self._tokens(tier, "completion").inc(max(0, call.usage.completion))
        if call.cost_usd:
            self._cost(tier).inc(call.cost_usd)

    def refused(self, code: str) -> None:
        """Count a request that no tier was asked to serve."""
        self._errors("router", code).inc()

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Now(Collector):
    """How things stand at the moment somebody looks."""

    def __init__(self, states: Callable[[], Mapping[str, ModelState]], in_flight: Callable[[], int]) -> None:
        self._states = states
        self._in_flight = in_flight

    def describe(self) -> Iterable[Metric]:
        """Names alone: nothing is asked when it is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Look at every tier."""
        resident = GaugeMetricFamily(
            "llmstack_resident", "Whether a tier's model is loaded.", labels=["tier"]
        )
        leases = GaugeMetricFamily("llmstack_leases", "Requests a tier is serving.", labels=["tier"])
        queue = GaugeMetricFamily("llmstack_queue", "Requests that wait for a tier.", labels=["tier"])
        loads = CounterMetricFamily("llmstack_loads", "Times a tier's model was loaded.", labels=["tier"])
        for tier, state in self._states().items():
            resident.add_metric([tier], state.state == "resident")
            leases.add_metric([tier], state.leases)
            queue.add_metric([tier], state.waiting)
            loads.add_metric([tier], state.loads)
        in_flight = GaugeMetricFamily("llmstack_in_flight", "Requests being served.", self._in_flight())
        yield from (resident, leases, queue, loads, in_flight)
