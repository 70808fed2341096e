"""llama.cpp's slots over HTTP. Source: llama.cpp tools/server/README.md."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.upstream.client import UpstreamError, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN_BYTES = 200  # of an error
_PROMPT_TOTALS = re.compile(r"^llamacpp:prompt_(tokens|seconds)_total ([\d.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SlotContents:
    """The contents of one slot; `task` is the number of the request that it served last."""

    index: int
    tokens: int
    task: int
    busy: bool


class SlotsError(LlmstackError):
    """The server did not do what was asked."""


class LlamaCppSlots:
    """The slots of one server.

    Args:
        url: its address.
        headers: what it requires with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers

    async def contents(self) -> dict[int, SlotContents]:
        """Return the contents of each slot, by its index."""
        response = _json("/slots", await self._request("GET", "/slots"))
        try:
            slots = [
                SlotContents(
                    one["id"], one.get("n_prompt_tokens", 0), one.get("id_task", -1), one["is_processing"]
                )
                for one in response
            ]
        except (KeyError, TypeError) as error:
            raise SlotsError(f"/slots: not as documented: {error!r}") from error
        return {slot.index: slot for slot in slots}

    async def save(self, index: int, filename: str) -> tuple[int, int]:
        """Save a slot to a file in the server's directory; return tokens and bytes."""
        response = await self._act(index, "save", filename)
        return int(response["n_saved"]), int(response["n_written"])

    async def restore(self, index: int, filename: str) -> int:
        """Restore a slot from such a file; return its tokens."""
        return int((await self._act(index, "restore", filename))["n_restored"])

    async def prompt_totals(self) -> tuple[float, float]:
        """Return how many prompt tokens the server has read since its start, and in how many seconds."""
        text = (await self._request("GET", "/metrics")).decode(errors="replace")
        totals = {name: float(value) for name, value in _PROMPT_TOTALS.findall(text)}
        return totals.get("tokens", 0.0), totals.get("seconds", 0.0)

    async def _act(self, index: int, action: str, filename: str) -> Any:
        path = f"/slots/{index}?action={action}"
        return _json(path, await self._request("POST", path, json.dumps({"filename": filename}).encode()))

    async def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request. There is no timeout here: the caller has a deadline for everything."""
        headers = {**self._headers, "content-type": "application/json"}
        try:
            status, response = await ask(method, f"{self._url}{path}", headers, body)
        except UpstreamError as error:
            raise SlotsError(f"{path}: {error}") from error
        if status != HTTPStatus.OK:
            raise SlotsError(f"{path}: {status} {response[:SHOWN_BYTES].decode(errors='replace')}")
        return response


def _json(path: str, response: bytes) -> Any:
    try:
        return json.loads(response)
    except ValueError as error:
        raise SlotsError(f"{path}: {error}") from error
