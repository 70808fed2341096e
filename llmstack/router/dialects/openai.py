"""What OpenAI's APIs share, and paths that the router knows nothing of. Source: platform.openai.com/docs."""

from __future__ import annotations

import json
import re
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

SERVER_FAILED = 500  # HTTP: from here on a status says that the server failed

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

    slots = True

    def error(self, report: FailureReport) -> bytes:
        """Return OpenAI's error object, with who failed."""
        return json.dumps({"error": error_object(report)}).encode()

    def server_error(self, status: int, body: bytes, origin: Origin) -> bytes:
        """Return it as it is where it is OpenAI's: Google's, Mistral's and many a proxy's are not."""
        try:
            if _FAILURE.decode(body).error is not None:
                return body
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        said = parse_failure(status, body, {})
        return self.error(FailureReport(status, said.code or f"upstream_{status}", said.message, origin))

    def error_event(self, report: FailureReport) -> bytes:
        """Return the error object as an event; SDKs raise on it."""
        return b"data: " + self.error(report) + b"\n\n"

    def watch(self) -> StreamWatch:
        """Return what waits for a finish reason."""
        return EndWatch(_FINISH, _FINISH_HINTS)

    def usage(self, answer: bytes) -> Usage | None:
        """Return what an answer says of its tokens."""
        return usage_in(answer)


def error_object(report: FailureReport) -> dict[str, object]:
    """Return what OpenAI's APIs have under `error`, with who failed."""
    default = "server_error" if report.status >= SERVER_FAILED else "invalid_request_error"
    return {
        "message": report.message,
        "type": _ERROR_TYPES.get(report.status, default),
        "param": None,
        "code": report.code,
        "origin": report.origin,
    }


class _Failure(msgspec.Struct):
    error: dict[str, msgspec.Raw] | None = None


class _Named(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None


class Untranslated(Openai):
    """Any other path: errors look like OpenAI's, bodies and streams are passed on as they are."""

    slots = False

    def parse(self, body: bytes) -> ParsedRequest:
        """Read the model it names, where there is one."""
        if body.lstrip()[:1] != b"{":
            return ParsedRequest(None, stream=False, facts=RequestFacts())
        request = decode(body, _NAMED)
        return ParsedRequest(request.model, bool(request.stream), RequestFacts())

    def server_error(self, _status: int, body: bytes, _origin: Origin) -> bytes:
        """Return it as it is."""
        return body

    def watch(self) -> StreamWatch:
        """Return what lets everything pass."""
        return TrustingWatch()


_FAILURE = msgspec.json.Decoder(_Failure)
_NAMED = msgspec.json.Decoder(_Named)
