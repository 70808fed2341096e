"""What OpenAI's APIs share, and paths that the router does not know. Source: platform.openai.com/docs."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from llmstack.policy.facts import RequestFacts
from llmstack.providers.translation.failures import parse_failure
from llmstack.router.dialects.base import ParsedRequest
from llmstack.router.dialects.parsing import decode
from llmstack.router.dialects.stream import EndWatch, TrustingWatch, usage_in
from llmstack.serving.errors import FailureReport

if TYPE_CHECKING:
    from llmstack.router.dialects.base import StreamWatch, Usage
    from llmstack.serving.errors import Origin

# What ends an answer: a finish reason, an error event of the server's, or else the closing mark (group 1).
# Inside a string of JSON the quotes would be escaped.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]|[\r\n]data: ?(?:\{\s*"error"\s*:\s*[^\sn]|(\[DONE\]))')
_FINISH_HINTS = (b'"finish_reason":"', b'"finish_reason": "', b'"error"', b"[DONE]")

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


class Openai:
    """Errors, streams and usage as chat completions have them."""

    accepts_slot = True

    def error(self, report: FailureReport) -> bytes:
        """Return OpenAI's error object, with who failed."""
        return json.dumps({"error": error_object(report)}).encode()

    def server_error(self, status: int, body: bytes, origin: Origin) -> bytes:
        """Return a server's error in OpenAI's form, which Google, Mistral and many proxies do not use."""
        try:
            if _FAILURE.decode(body).error is not None:
                return body
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        reported = parse_failure(status, body, {})
        code = reported.code or f"upstream_{status}"
        return self.error(FailureReport(status, code, reported.message, origin))

    def error_event(self, report: FailureReport) -> bytes:
        """Return the error object as an event; SDKs raise on it."""
        return b"data: " + self.error(report) + b"\n\n"

    def watch(self) -> StreamWatch:
        """Return a watch that waits for a finish reason."""
        return EndWatch(_FINISH, _FINISH_HINTS)

    def usage(self, answer: bytes) -> Usage | None:
        """Return the tokens that an answer reports."""
        return usage_in(answer)


def error_object(report: FailureReport) -> dict[str, object]:
    """Return the value of `error` in OpenAI's APIs, with who failed."""
    default = "server_error" if report.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return {
        "message": report.message,
        "type": _ERROR_TYPES.get(report.status, default),
        "param": None,
        "code": report.code,
        "origin": report.origin,
    }


class _Failure(msgspec.Struct):
    error: dict[str, msgspec.Raw] | None = None


class _ModelAndStream(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None


class Untranslated(Openai):
    """Any other path: errors look like OpenAI's, bodies and streams are passed on as they are."""

    accepts_slot = False

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the model that the body names, if it names one."""
        if body.lstrip()[:1] != b"{":
            return ParsedRequest(None, stream=False, facts=RequestFacts())
        request = decode(body, _MODEL_AND_STREAM)
        return ParsedRequest(request.model, bool(request.stream), RequestFacts())

    def server_error(self, _status: int, body: bytes, _origin: Origin) -> bytes:
        """Return a server's error unchanged."""
        return body

    def watch(self) -> StreamWatch:
        """Return a watch that passes everything."""
        return TrustingWatch()


_FAILURE = msgspec.json.Decoder(_Failure)
_MODEL_AND_STREAM = msgspec.json.Decoder(_ModelAndStream)
