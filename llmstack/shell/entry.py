"""What the hook runs when something changed: `python -I -S entry.py FORMAT STORE WORK_DIR`.

`-I -S` keeps out whatever the environment and site-packages would bring in (a PYTHONPATH of `.` would import
files of the project that is being looked at), and starts in half the time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Print where a project stands, in the form that the shell wants."""
    from llmstack.shell.activation_status import Place, standing  # noqa: PLC0415 - likewise
    from llmstack.trust.fingerprint import STATE_DIR  # noqa: PLC0415 - the path is set below

    form, store, work_dir = arguments
    env = dict(os.environ)
    override = env.get("LLMSTACK_MODELS_INI")
    own = Path(work_dir) / STATE_DIR / "models.ini"
    place = Place(Path(work_dir), Path(override).expanduser().absolute() if override else own)
    fields = standing(place, Path(store), env).fields()
    sys.stdout.buffer.write(encoded(fields, form))


def encoded(fields: list[str], form: str) -> bytes:
    """Return the fields in one of the forms that a shell can take apart without evaluating anything.

    `nul`: each ends in NUL. `lines`: a line each, for `printf %b`. `json`: in ASCII, whatever the code page.
    """
    if form == "json":
        import json  # noqa: PLC0415 - 10 ms that only PowerShell needs

        return json.dumps(fields).encode("ascii")
    data = [field.encode("utf-8", "surrogateescape") for field in fields]
    if form == "nul":
        return b"".join(each + b"\0" for each in data)
    return "".join(f"{''.join(map(_escaped, each))}\n" for each in data).encode("ascii")


def _escaped(byte: int) -> str:
    char = chr(byte)
    return char if char.isascii() and (char.isalnum() or char in " ./:_-[]") else f"\\0{byte:o}"


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    main(sys.argv[1:])
