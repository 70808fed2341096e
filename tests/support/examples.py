"""How many examples a property test runs: a sample of its own in the suite, by hand as many as asked for."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

BY_HAND = "by hand"


def by_hand(count: int) -> None:
    """Let every property test run this many examples, others each time (`pytest --examples COUNT`)."""
    settings.register_profile(BY_HAND, max_examples=count)
    settings.load_profile(BY_HAND)


def sample(count: int) -> settings:
    """Return the settings of a test that runs `count` examples in the suite, the same ones each time."""
    asked = settings.get_current_profile_name() == BY_HAND
    return settings(
        max_examples=settings().max_examples if asked else count,
        derandomize=not asked,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
