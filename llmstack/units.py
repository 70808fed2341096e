"""Sizes in bytes. The units are binary, as memory and llama.cpp count: 1 GB is 1024³ bytes."""

from __future__ import annotations

KB = 1024
MB = 1024 * KB
GB = 1024 * MB
