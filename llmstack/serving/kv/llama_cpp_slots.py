"""llama.cpp's slots over HTTP, as its README documents them: what they hold, saving, restoring."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.upstream.client import UpstreamError, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = 200
SHOWN_BYTES = 200  # of an error
_COUNTED = re.compile(r"^llamacpp:prompt_(tokens|seconds)_total ([\d.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """What one slot holds: `task` is the number of the request that it served last."""

    index: int
    tokens: int
    task: int
    busy: bool


class SlotsError(LlmstackError):
    """The server did not do it."""


class LlamaCppSlots:
    """The slots of one server.

    Args:
        url: its address.
        headers: what it wants with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers

    async def held(self) -> dict[int, Held]:
        """Return what each slot holds."""
        answer = _json("/slots", await self._ask("GET", "/slots"))
        try:
            found = [
                Held(one["id"], one.get("n_prompt_tokens", 0), one.get("id_task", -1), one["is_processing"])
                for one in answer
            ]
        except (KeyError, TypeError) as error:
            raise SlotsError(f"/slots: not as documented: {error!r}") from error
        return {held.index: held for held in found}

    async def save(self, index: int, filename: str) -> tuple[int, int]:
        """Have a slot written to a file of the server's directory; return tokens and bytes."""
        answer = await self._do(index, "save", filename)
        return int(answer["n_saved"]), int(answer["n_written"])

    async def restore(self, index: int, filename: str) -> int:
        """Have a slot filled from such a file; return its tokens."""
        return int((await self._do(index, "restore", filename))["n_restored"])

    async def reading(self) -> tuple[float, float]:
        """Return how many prompt tokens the server has read since its start, and in how many seconds."""
        text = (await self._ask("GET", "/metrics")).decode(errors="replace")
        counted = {what: float(value) for what, value in _COUNTED.findall(text)}
        return counted.get("tokens", 0.0), counted.get("seconds", 0.0)

    async def _do(self, index: int, action: str, filename: str) -> Any:
        path = f"/slots/{index}?action={action}"
        return _json(path, await self._ask("POST", path, json.dumps({"filename": filename}).encode()))

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request; whoever asks has a deadline for all of it."""
        headers = {**self._headers, "content-type": "application/json"}
        try:
            status, answer = await ask(method, f"{self._url}{path}", headers, body)
        except UpstreamError as error:
            raise SlotsError(f"{path}: {error}") from error
        if status != OK:
            raise SlotsError(f"{path}: {status} {answer[:SHOWN_BYTES].decode(errors='replace')}")
        return answer


def _json(path: str, answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError as error:
        raise SlotsError(f"{path}: {error}") from error
