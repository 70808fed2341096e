"""The peak of a process's memory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def peak_bytes(pid: int | str = "self") -> int:
    """Return the most memory that a running process has held at once (VmHWM)."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024
