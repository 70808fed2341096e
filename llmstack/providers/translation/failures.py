"""What a provider's error says, in whichever form it comes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = 500  # characters of an answer that is not JSON
HIDDEN = "…"
OVERLOADED = 529  # Anthropic's own; clients of other APIs know 503


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a provider answered with.

    Attributes:
        status: HTTP status, one that every client knows.
        code: the provider's own word for it, such as `insufficient_quota`; empty where it gave none.
        message: its text, without credentials.
        retry_after: seconds; None where it did not say.
    """

    status: int
    code: str
    message: str
    retry_after: float | None = None


def failure(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    secrets: Sequence[str] = (),
    now: datetime | None = None,
) -> Failure:
    """Read an error.

    Args:
        status: HTTP status of the answer.
        body: of the answer: OpenAI's, Anthropic's, Google's or Mistral's error object, or anything.
        headers: of the answer, names in lower case.
        secrets: what must not be shown: some providers repeat the key that they refuse.
        now: the time, for a `retry-after` that is a date.
    """
    try:
        code, message = _read(json.loads(body))
    except (ValueError, RecursionError):
        code, message = "", body[:SHOWN].decode(errors="replace").strip()
    known = 503 if status == OVERLOADED else status
    wait = retry_after(headers, now or datetime.now(UTC))
    return Failure(known, code, without(message or f"HTTP {status}", secrets), wait)


def without(text: str, secrets: Sequence[str]) -> str:
    """Return text without credentials."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _read(body: Any) -> tuple[str, str]:
    """Return code and message of an error object."""
    if isinstance(body, list) and body:  # Google's
        return _read(body[0])
    if not isinstance(body, dict):
        return "", json.dumps(body)[:SHOWN]
    error = body.get("error")
    if isinstance(error, str):
        return "", error
    told = error if isinstance(error, dict) else body
    message = told.get("message", told.get("detail"))
    if isinstance(message, dict):  # Mistral's, of a request that is wrong
        message = message.get("detail", message)
    text = message if isinstance(message, str) else json.dumps(message or told, ensure_ascii=False)[:SHOWN]
    code = next((value for key in ("code", "status", "type") if isinstance(value := told.get(key), str)), "")
    return code, text


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how many seconds a server asks to be left alone; None where it does not say.

    `Retry-After` is seconds or a date (RFC 9110, 10.2.3); OpenAI and Azure also send milliseconds.
    """
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        text = headers.get("retry-after", "")
        if not text:
            return None
        try:
            return max(0.0, float(text))
        except ValueError:
            return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
