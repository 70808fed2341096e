"""Counters for Prometheus. Labels hold names from models.ini and from this code alone, so they stay few."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

    from llmstack.router.call import Call
    from llmstack.swapper.base import ModelState

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_FIRST_BYTE_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class _Counted:
    """A counter with labels. The library's own takes a lock each time: they were a twentieth of a request."""

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self._name, self._about, self._labels = f"llmstack_{name}", about, labels
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + by

    def family(self) -> Metric:
        """Return it as the library writes it."""
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        return family


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
        self._requests = _Counted("requests", "Requests that ended.", "tier", "outcome")
        self._decisions = _Counted("decisions", "Why a tier was chosen.", "tier", "rule")
        self._tokens = _Counted(
            "tokens",
            "Tokens as the servers counted them: prompt (cached ones included), cached, completion.",
            *("tier", "kind"),
        )
        self._cost = _Counted("cost_usd", "What hosted answers cost, as LiteLLM says.", "tier")
        self._errors = _Counted("errors", "Requests that failed.", "origin", "code")
        self._first_bytes: dict[str, _FirstBytes] = {}
        self._registry.register(self)
        self._registry.register(_Now(states, in_flight))

    def ended(self, call: Call) -> None:
        """Count a request that ended."""
        tier = call.tier
        self._requests.add(tier, call.outcome)
        self._decisions.add(tier, call.rule)
        if call.outcome == "ok":
            if call.first_byte_s is not None:
                self._first_bytes.setdefault(tier, _FirstBytes()).observe(call.first_byte_s)
        elif call.origin:
            self._errors.add(call.origin, call.outcome)
        if call.usage is not None:
            self._tokens.add(tier, "prompt", by=max(0, call.usage.prompt))
            self._tokens.add(tier, "cached", by=max(0, call.usage.cached))
            self._tokens.add(tier, "completion", by=max(0, call.usage.completion))
        if call.cost_usd:
            self._cost.add(tier, by=call.cost_usd)

    def refused(self, code: str) -> None:
        """Count a request that no tier was asked to serve."""
        self._errors.add("router", code)

    def describe(self) -> Iterable[Metric]:
        """Names alone: nothing is asked when it is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return what was counted."""
        for counted in (self._requests, self._decisions, self._tokens, self._cost, self._errors):
            yield counted.family()
        about = "From a request's arrival to the first byte of its answer."
        family = HistogramMetricFamily("llmstack_first_byte_seconds", about, labels=["tier"])
        for tier, seconds in self._first_bytes.items():
            seconds.add_to(family, tier)
        yield family

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
