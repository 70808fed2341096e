"""The background download process: `-m llmstack.stack.download.worker STATE_DIR LOG_DIR ITEM…`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llmstack.errors import LlmstackError
from llmstack.stack.download.download import run_downloads
from llmstack.stack.download.state import DownloadDir, DownloadItem

if TYPE_CHECKING:
    from types import FrameType

    from llmstack.config.model import LocalChannel


def main() -> int:
    """Download the files on the command line and return the exit code: 1 if one failed."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    download_dir = DownloadDir(Path(sys.argv[1]), Path(sys.argv[2]))
    try:
        result = run_downloads([_parse_item(text) for text in sys.argv[3:]], download_dir, dict(os.environ))
    except LlmstackError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if result.failed_items else 0


def _parse_item(text: str) -> DownloadItem:
    tier, label, repo, file = text.split("\t")
    return DownloadItem(tier, cast("LocalChannel", label), repo, file)


if __name__ == "__main__":
    sys.exit(main())
