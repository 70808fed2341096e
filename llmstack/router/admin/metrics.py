"""Metrics for Prometheus. Labels come only from models.ini and from this code, so they stay few."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

    from llmstack.router.routed_request import RoutedRequest
    from llmstack.serving.base import ModelState

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_FIRST_BYTE_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(slots=True)
class _Totals:
    """Totals of the requests with the same tier, rule, outcome and origin.

    A request needs one look-up; the metrics are added up when Prometheus asks.
    """

    requests: int = 0
    with_usage: int = 0  # requests whose server reported tokens
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost_usd: float = 0.0


class _Counter:
    """A counter with labels."""

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self._family = CounterMetricFamily(f"llmstack_{name}", help_text, labels=labels)
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float) -> None:
        self._values[labels] = self._values.get(labels, 0) + by

    def family(self) -> Metric:
        """Return it as the library's metric family."""
        for labels, value in self._values.items():
            self._family.add_metric(labels, value)
        return self._family


class _FirstByteHistogram:
    """Time to the first byte of an answer, for one tier."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_FIRST_BYTE_S) + 1)  # by bucket, the last one without an upper bound
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(_FIRST_BYTE_S, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, tier: str) -> None:
        bounds = [*(str(float(bound)) for bound in _FIRST_BYTE_S), "+Inf"]
        family.add_metric([tier], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)


class Metrics(Collector):
    """What the router has counted since it started.

    Args:
        states: returns the state of every tier.
        in_flight: returns the number of requests being served.
    """

    def __init__(self, states: Callable[[], Mapping[str, ModelState]], in_flight: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._totals: dict[tuple[str, str, str, str], _Totals] = {}  # by tier, rule, outcome, origin
        self._refused: Counter[str] = Counter()
        self._first_bytes: dict[str, _FirstByteHistogram] = {}
        self._registry.register(self)
        self._registry.register(_CurrentState(states, in_flight))

    def count_request(self, request: RoutedRequest) -> None:
        """Count a request that totals."""
        key, usage = (request.tier, request.rule, request.outcome, request.origin), request.usage
        totals = self._totals.get(key)
        if totals is None:
            totals = self._totals[key] = _Totals()
        totals.requests += 1
        totals.cost_usd += request.cost_usd
        if usage is not None:
            totals.with_usage += 1
            totals.prompt += usage.prompt
            totals.cached += usage.cached
            totals.completion += usage.completion
        if request.first_byte_s is not None and request.outcome == "ok":
            first_bytes = self._first_bytes.get(request.tier)
            if first_bytes is None:
                first_bytes = self._first_bytes[request.tier] = _FirstByteHistogram()
            first_bytes.observe(request.first_byte_s)

    def count_refusal(self, code: str) -> None:
        """Count a request that was refused before a tier was chosen."""
        self._refused[code] += 1

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the metrics need not be collected when this is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return everything that was counted."""
        yield from self._counters()
        help_text = "From a request's arrival to the first byte of its answer."
        family = HistogramMetricFamily("llmstack_first_byte_seconds", help_text, labels=["tier"])
        for tier, seconds in self._first_bytes.items():
            seconds.add_to(family, tier)
        yield family

    def _counters(self) -> Iterable[Metric]:
        requests = _Counter("requests", "Requests that totals.", "tier", "outcome")
        decisions = _Counter("decisions", "Why a tier was chosen.", "tier", "rule")
        help_text = "Tokens as the servers counted them: prompt (cached ones included), cached, completion."
        tokens = _Counter("tokens", help_text, "tier", "kind")
        cost = _Counter("cost_usd", "What hosted answers cost, as LiteLLM says.", "tier")
        errors = _Counter("errors", "Requests that failed.", "origin", "code")
        for code, count in self._refused.items():
            errors.add("router", code, by=count)
        for (tier, rule, outcome, origin), totals in self._totals.items():
            requests.add(tier, outcome, by=totals.requests)
            decisions.add(tier, rule, by=totals.requests)
            if totals.with_usage:  # otherwise 0 would say that no tokens were cached
                for kind in ("prompt", "cached", "completion"):
                    tokens.add(tier, kind, by=getattr(totals, kind))
            if totals.cost_usd:
                cost.add(tier, by=totals.cost_usd)
            if origin:
                errors.add(origin, outcome, by=totals.requests)
        return [counter.family() for counter in (requests, decisions, tokens, cost, errors)]

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _CurrentState(Collector):
    """The present state of the tiers."""

    def __init__(self, states: Callable[[], Mapping[str, ModelState]], in_flight: Callable[[], int]) -> None:
        self._states = states
        self._in_flight = in_flight

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the metrics need not be collected when this is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the state of every tier."""
        loaded = GaugeMetricFamily("llmstack_resident", "Whether a tier's model is loaded.", labels=["tier"])
        leases = GaugeMetricFamily("llmstack_leases", "Requests a tier is serving.", labels=["tier"])
        queue = GaugeMetricFamily("llmstack_queue", "Requests that wait for a tier.", labels=["tier"])
        loads = CounterMetricFamily("llmstack_loads", "Times a tier's model was loaded.", labels=["tier"])
        for tier, state in self._states().items():
            loaded.add_metric([tier], state.state == "resident")
            leases.add_metric([tier], state.leases)
            queue.add_metric([tier], state.waiting)
            loads.add_metric([tier], state.loads)
        in_flight = GaugeMetricFamily("llmstack_in_flight", "Requests being served.", self._in_flight())
        yield from (loaded, leases, queue, loads, in_flight)
