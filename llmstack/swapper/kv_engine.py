"""llama.cpp's slots over HTTP, as its README documents them: what they hold, saving, restoring."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = 200
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


class EngineSlots:
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
        answer = await self._ask("GET", "/slots")
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
        answer = await self._ask("POST", f"/slots/{index}?action=save", {"filename": filename})
        return int(answer["n_saved"]), int(answer["n_written"])

    async def restore(self, index: int, filename: str) -> int:
        """Have a slot filled from such a file; return its tokens."""
        answer = await self._ask("POST", f"/slots/{index}?action=restore", {"filename": filename})
        return int(answer["n_restored"])

    async def reading(self) -> tuple[float, float]:
        """Return how many prompt tokens the server has read since its start, and in how many seconds."""
        text = str(await self._ask("GET", "/metrics"))
        counted = {what: float(value) for what, value in _COUNTED.findall(text)}
        return counted.get("tokens", 0.0), counted.get("seconds", 0.0)

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        timeout = aiohttp.ClientTimeout(None)  # whoever asks has a deadline for all of it
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(method, f"{self._url}{path}", json=body, headers=self._headers) as answer,
            ):
                if answer.status != OK:
                    raise SlotsError(f"{path}: {answer.status} {(await answer.text())[:200]}")
                return await (answer.json() if answer.content_type == "application/json" else answer.text())
        except (aiohttp.ClientError, ValueError) as error:
            raise SlotsError(f"{path}: {error}") from error
