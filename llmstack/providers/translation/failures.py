"""What a provider's error says, in whichever form it comes."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = 500  # characters of an answer that is not JSON
HIDDEN = "…"
OVERLOADED = 529  # Anthropic's own; clients of other APIs know 503
_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?)s")  # of protobuf, as JSON has it


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
    wait = retry_after(headers, now or datetime.now(UTC))
    try:
        told = _error_object(json.loads(body))
        code, message = _read(told)
        wait = wait if wait is not None else _retry_info(told)
    except (ValueError, RecursionError):
        code, message = "", body[:SHOWN].decode(errors="replace").strip()
    known = 503 if status == OVERLOADED else status
    return Failure(known, code, without(message or f"HTTP {status}", secrets), wait)


def without(text: str, secrets: Sequence[str]) -> str:
    """Return text without credentials."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def without_in(body: bytes, secrets: Sequence[str]) -> bytes:
    """Return the bytes of an answer without credentials."""
    for secret in secrets:
        body = body.replace(secret.encode(errors="surrogateescape"), HIDDEN.encode())
    return body


def _error_object(body: Any) -> Any:
    """Return what an answer says under `error`, or what stands in that place."""
    if isinstance(body, list) and body:  # Google's
        return _error_object(body[0])
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("response"), dict):  # of an event of OpenAI's responses
        return _error_object(body["response"])
    return body if body.get("error") is None else body["error"]


def _read(told: Any) -> tuple[str, str]:
    """Return code and message of an error object."""
    if isinstance(told, str):  # Ollama's
        return "", told
    if not isinstance(told, dict):
        return "", json.dumps(told)[:SHOWN]
    message = told.get("message", told.get("detail"))
    if isinstance(message, dict):  # Mistral's, of a request that is wrong
        message = message.get("detail", message)
    text = message if isinstance(message, str) else json.dumps(message or told, ensure_ascii=False)[:SHOWN]
    code = next((value for key in ("code", "status", "type") if isinstance(value := told.get(key), str)), "")
    return code, text


def _retry_info(told: Any) -> float | None:
    """Return the seconds that Google asks for, whose API sends no `Retry-After`."""
    details = told.get("details") if isinstance(told, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(delay := detail.get("retryDelay"), str):
            found = _DURATION.fullmatch(delay)
            return float(found[1]) if found else None
    return None


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how many seconds a server asks to be left alone; None where it does not say.

    `Retry-After` is seconds or a date (RFC 9110, 10.2.3); OpenAI and Azure also send milliseconds.
    """
    try:
        if "retry-after-ms" in headers:
            return _seconds(headers["retry-after-ms"]) / 1000
        text = headers.get("retry-after", "")
        if not text:
            return None
        try:
            return _seconds(text)
        except ValueError:
            return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds(text: str) -> float:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(text)
    return max(0.0, seconds)
