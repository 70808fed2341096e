#!/usr/bin/env python3
"""A llama-server that never finishes loading: it opens no port and waits for a signal."""

import signal
import sys

if "--help" in sys.argv:
    sys.exit("--host HOST   ip address, or an UNIX socket if the address ends with .sock")
signal.pause()
