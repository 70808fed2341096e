"""Parse the error responses of providers, in all their formats."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmstack.http_headers import read_retry_after
from llmstack.units import KB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

MAX_PARSED_BYTES = 64 * KB  # a longer body, which may repeat the request, is taken for text
MAX_SHOWN_CHARS = 500  # of a body that is not JSON
REDACTED = "…"
ANTHROPIC_OVERLOADED = 529  # clients of other APIs expect 503
_PROTOBUF_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?)s")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error response of a provider.

    Attributes:
        status: HTTP status, one that every client understands.
        code: the provider's error code, such as `insufficient_quota`; empty if there is none.
        message: its text, without credentials.
        retry_after: seconds that the provider asks to wait; None if it does not say.
    """

    status: int
    code: str
    message: str
    retry_after: float | None = None


def parse_failure(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    secrets: Sequence[str] = (),
    now: datetime | None = None,
) -> Failure:
    """Parse an error response.

    Args:
        status: HTTP status.
        body: an error object of OpenAI, Anthropic, Google or Mistral, or anything else.
        headers: of the response, names in lower case.
        secrets: credentials to redact: some providers repeat the key that they reject.
        now: the time that a date in `retry-after` is compared with; the current time by default.
    """
    retry_after = read_retry_after(headers, now)
    try:
        error = _find_error(json.loads(body if len(body) <= MAX_PARSED_BYTES else b""))
        code, message = _read_code_and_message(error)
        retry_after = retry_after if retry_after is not None else _read_retry_delay(error)
    except (ValueError, RecursionError):
        code, message = "", body[:MAX_SHOWN_CHARS].decode(errors="replace").strip()
    status = 503 if status == ANTHROPIC_OVERLOADED else status
    return Failure(status, code, redact(message or f"HTTP {status}", secrets), retry_after)


def redact(text: str, secrets: Sequence[str]) -> str:
    """Return text without credentials."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return text


def redact_bytes(body: bytes, secrets: Sequence[str]) -> bytes:
    """Return bytes without credentials."""
    for secret in secrets:
        body = body.replace(secret.encode(errors="surrogateescape"), REDACTED.encode())
    return body


class StreamRedactor:
    """Redacts credentials in bytes that come part by part, also one that two parts share.

    Args:
        secrets: the credentials.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        longest = max((len(secret.encode(errors="surrogateescape")) for secret in secrets), default=1)
        self._held_bytes = longest - 1  # at the end of a part, which may be the start of a credential
        self._held = b""

    def feed(self, part: bytes) -> bytes:
        """Return what can be passed on with this part."""
        if not self._held_bytes:
            return part
        text = redact_bytes(self._held + part, self._secrets)
        end = max(0, len(text) - self._held_bytes)
        self._held = text[end:]
        return text[:end]

    def close(self) -> bytes:
        """Return the rest."""
        return self._held


def _find_error(body: Any) -> Any:
    """Return the error in a body: its member `error`, or the body itself."""
    if isinstance(body, list) and body:  # Google's
        return _find_error(body[0])
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("response"), dict):  # an event of OpenAI's Responses API
        return _find_error(body["response"])
    return body if body.get("error") is None else body["error"]


def _read_code_and_message(error: Any) -> tuple[str, str]:
    if isinstance(error, str):  # Ollama's
        return "", error
    if not isinstance(error, dict):
        return "", json.dumps(error)[:MAX_SHOWN_CHARS]
    message = error.get("message", error.get("detail"))
    if isinstance(message, dict):  # Mistral's, for an invalid request
        message = message.get("detail", message)
    if not isinstance(message, str):
        message = json.dumps(message or error, ensure_ascii=False)[:MAX_SHOWN_CHARS]
    codes = (error.get(key) for key in ("code", "status", "type"))
    return next((code for code in codes if isinstance(code, str)), ""), message


def _read_retry_delay(error: Any) -> float | None:
    """Return the seconds that Google asks to wait; its API sends no `Retry-After`."""
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(delay := detail.get("retryDelay"), str):
            match = _PROTOBUF_DURATION.fullmatch(delay)
            return float(match[1]) if match else None
    return None
