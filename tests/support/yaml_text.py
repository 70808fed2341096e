"""YAML text to plain dicts and lists and back."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML


def load_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def dump_yaml(document: Any) -> str:
    out = io.StringIO()
    YAML().dump(document, out)
    return out.getvalue()
