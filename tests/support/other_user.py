"""Run code as another user of this machine. The tests do so if they run as root."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

NOBODY = 65534
as_root = pytest.mark.skipif(
    os.name != "posix" or os.getuid() != 0, reason="only root can become another user"
)
# The interpreter may be in root's own directory: it starts as root and gives its rights up.
_PRELUDE = f"""
import http.client, http.server, json, os, socket, socketserver, sys, encodings.idna  # later it cannot
log = open(sys.argv[1], "a", buffering=1)
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
del sys.argv[1]
"""


def start_as_nobody(code: str, *args: str, log: Any, **options: Any) -> subprocess.Popen[str]:
    """Run Python code as user nobody; it writes what it finds to the open file `log`."""
    command = [sys.executable, "-c", _PRELUDE + code, str(log), *args]
    return subprocess.Popen(command, text=True, **options)


def run_as_nobody(code: str, *args: str) -> str:
    """Run Python code as user nobody until it ends; return what it prints."""
    process = start_as_nobody(code, *args, log=os.devnull, stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=60)
    return output
