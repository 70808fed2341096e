"""YAML text to plain dicts and lists and back."""

from __future__ import annotations

import io
import sys
from typing import Any

from ruamel.yaml import YAML


def load_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def dump_yaml(document: Any) -> str:
    yaml = YAML()
    yaml.width = sys.maxsize  # ruamel.yaml folds some strings incorrectly
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()
