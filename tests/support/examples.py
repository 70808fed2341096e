"""The number of examples of a property test: fixed in the suite, configurable when run by hand."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

BY_HAND = "by hand"


def by_hand(count: int) -> None:
    """Run this many random examples of every property test (`pytest --examples COUNT`)."""
    settings.register_profile(BY_HAND, max_examples=count)
    settings.load_profile(BY_HAND)


def sample(count: int) -> settings:
    """Return the settings of a test that runs the same `count` examples each time in the suite."""
    is_by_hand = settings.get_current_profile_name() == BY_HAND
    return settings(
        max_examples=settings().max_examples if is_by_hand else count,
        derandomize=not is_by_hand,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
