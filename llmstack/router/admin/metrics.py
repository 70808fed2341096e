"""Counters for Prometheus. Labels hold names from models.ini and from this code alone, so they stay few."""

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
class _Ended:
    """What the requests came to that ended alike: one look-up for each of them, sums when somebody asks.

    The library's own counters take a lock for each sum: they were a twentieth of a request.
    """

    requests: int = 0
    counted: int = 0  # of them, those whose server said its tokens
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost_usd: float = 0.0


class _Sums:
    """A counter with labels, while it is added up."""

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self._family = CounterMetricFamily(f"llmstack_{name}", about, labels=labels)
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float) -> None:
        self._sums[labels] = self._sums.get(labels, 0) + by

    def family(self) -> Metric:
        """Return it as the library writes it."""
        for labels, value in self._sums.items():
            self._family.add_metric(labels, value)
        return self._family


class _FirstBytes:
    """How long the first byte of an answer took, for one tier."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_FIRST_BYTE_S) + 1)  # in each bucket, the last one without a bound
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(_FIRST_BYTE_S, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, tier: str) -> None:
        bounds = [*(str(float(bound)) for bound in _FIRST_BYTE_S), "+Inf"]
        family.add_metric([tier], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)


class Metrics(Collector):
    """What the router counts since it started.

    Args:
        states: gives the state of every tier, asked when somebody looks.
        in_flight: gives the number of requests being served.
    """

    def __init__(self, states: Callable[[], Mapping[str, ModelState]], in_flight: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._ended: dict[tuple[str, str, str, str], _Ended] = {}  # by tier, rule, outcome, origin
        self._refused: Counter[str] = Counter()
        self._first_bytes: dict[str, _FirstBytes] = {}
        self._registry.register(self)
        self._registry.register(_Now(states, in_flight))

    def count_request(self, request: RoutedRequest) -> None:
        """Count a request that ended."""
        alike, usage = (request.tier, request.rule, request.outcome, request.origin), request.usage
        ended = self._ended.get(alike)
        if ended is None:
            ended = self._ended[alike] = _Ended()
        ended.requests += 1
        ended.cost_usd += request.cost_usd
        if usage is not None:
            ended.counted += 1
            ended.prompt += usage.prompt
            ended.cached += usage.cached
            ended.completion += usage.completion
        if request.first_byte_s is not None and request.outcome == "ok":
            first_bytes = self._first_bytes.get(request.tier)
            if first_bytes is None:
                first_bytes = self._first_bytes[request.tier] = _FirstBytes()
            first_bytes.observe(request.first_byte_s)

    def count_refusal(self, code: str) -> None:
        """Count a request that no tier was asked to serve."""
        self._refused[code] += 1

    def describe(self) -> Iterable[Metric]:
        """Names alone: nothing is asked when it is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return what was counted."""
        yield from self._counted()
        about = "From a request's arrival to the first byte of its answer."
        family = HistogramMetricFamily("llmstack_first_byte_seconds", about, labels=["tier"])
        for tier, seconds in self._first_bytes.items():
            seconds.add_to(family, tier)
        yield family

    def _counted(self) -> Iterable[Metric]:
        requests = _Sums("requests", "Requests that ended.", "tier", "outcome")
        decisions = _Sums("decisions", "Why a tier was chosen.", "tier", "rule")
        about = "Tokens as the servers counted them: prompt (cached ones included), cached, completion."
        tokens = _Sums("tokens", about, "tier", "kind")
        cost = _Sums("cost_usd", "What hosted answers cost, as LiteLLM says.", "tier")
        errors = _Sums("errors", "Requests that failed.", "origin", "code")
        for code, count in self._refused.items():
            errors.add("router", code, by=count)
        for (tier, rule, outcome, origin), ended in self._ended.items():
            requests.add(tier, outcome, by=ended.requests)
            decisions.add(tier, rule, by=ended.requests)
            if ended.counted:  # then 0 says that none were cached, not that nobody knows
                for kind in ("prompt", "cached", "completion"):
                    tokens.add(tier, kind, by=getattr(ended, kind))
            if ended.cost_usd:
                cost.add(tier, by=ended.cost_usd)
            if origin:
                errors.add(origin, outcome, by=ended.requests)
        return [sums.family() for sums in (requests, decisions, tokens, cost, errors)]

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
