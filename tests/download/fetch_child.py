"""Fetch one file in a process that a test can kill: `URL TARGET SHA256 [--limit MAX_FILE_BYTES]`."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from llmstack.download.fetch import fetch
from llmstack.download.request import FetchListener, FetchRequest
from llmstack.download.retry import FetchLimits
from llmstack.errors import LlmstackError


class PrintingListener(FetchListener):
    def notify(self, text: str) -> None:
        print(text, flush=True)


if __name__ == "__main__":
    url, target, sha256 = sys.argv[1:4]
    if sys.argv[4:5] == ["--limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]), int(sys.argv[5])))
    limits = FetchLimits(chunk_bytes=4_000_000, tries=4, backoff_s=0.05)
    try:
        asyncio.run(
            fetch(FetchRequest(url, Path(target), sha256=sha256), limits=limits, listener=PrintingListener())
        )
    except LlmstackError as error:
        print(f"error: {error.message}")
        sys.exit(1)
