#!/usr/bin/env python3
"""A llama-server that never finishes loading: it opens no port and waits for a signal."""

import signal

signal.pause()
