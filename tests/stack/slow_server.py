#!/usr/bin/env python3
"""A llama-server that never finishes loading: it listens nowhere and waits to be ended."""

import signal

signal.pause()
