"""The process that downloads in the background: `-m llmstack.stack.download.worker STATE LOGS ITEM…`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llmstack.errors import LlmstackError
from llmstack.stack.download.download import run
from llmstack.stack.download.state import DownloadDir, Item

if TYPE_CHECKING:
    from types import FrameType

    from llmstack.config.model import LocalChannel


def main() -> int:
    """Fetch the files on the command line; 1 where one failed."""

    def end(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    place = DownloadDir(Path(sys.argv[1]), Path(sys.argv[2]))
    try:
        done = run([_item(line) for line in sys.argv[3:]], place, dict(os.environ))
    except LlmstackError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if done.failed else 0


def _item(line: str) -> Item:
    tier, label, repo, file = line.split("\t")
    return Item(tier, cast("LocalChannel", label), repo, file)


if __name__ == "__main__":
    sys.exit(main())
