"""Parsers of HTTP header values that several packages read. Standard library only."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how many seconds a server asks to wait; None if it does not say.

    OpenAI and Azure send `Retry-After-Ms`, in milliseconds, which is the more exact one.

    Args:
        headers: of the response, names in lower case.
        now: the time that a date is compared with; the current time by default.
    """
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is None:
        return parse_retry_after(headers.get("retry-after"), now)
    try:
        return _parse_seconds(milliseconds) / 1000
    except ValueError:
        return None


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None if it is missing or malformed.

    The value is a number of seconds or a date (RFC 9110, 10.2.3); a date in the past means 0.

    Args:
        value: the header's value; None if there is no such header.
        now: the time that a date is compared with; the current time by default.
    """
    if not value:
        return None
    try:
        return _parse_seconds(value)
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a time zone
        return None


def _parse_seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(text)
    return max(0.0, seconds)
