"""The program that the shell hook runs on a change: `python -I -S entry.py FORMAT TRUST_FILE WORK_DIR`.

`-I -S` ignores the environment and site-packages: a PYTHONPATH of `.` would import files of the very project
that is being checked. It also halves the start-up time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(args: list[str]) -> None:
    """Print the activation status of a project in the format that the shell reads."""
    from llmstack.shell.activation_status import HookProject, read_status  # noqa: PLC0415 - as below
    from llmstack.trust.fingerprint import STATE_DIR  # noqa: PLC0415 - sys.path is set below

    output_format, trust_file, work_dir = args
    env = dict(os.environ)
    override = env.get("LLMSTACK_MODELS_INI")
    default = Path(work_dir) / STATE_DIR / "models.ini"
    models_ini = Path(override).expanduser().absolute() if override else default
    status = read_status(HookProject(Path(work_dir), models_ini), Path(trust_file), env)
    sys.stdout.buffer.write(encode(status.fields(), output_format))


def encode(fields: list[str], output_format: str) -> bytes:
    """Encode fields so that a shell can split them without evaluating anything.

    Args:
        fields: the values, in order.
        output_format: `nul` ends each field with NUL; `lines` writes a line per field, for `printf %b`;
            `json` writes a JSON list in ASCII, which every code page preserves.
    """
    if output_format == "json":
        import json  # noqa: PLC0415 - takes 10 ms and only PowerShell needs it

        return json.dumps(fields).encode("ascii")
    data = [field.encode("utf-8", "surrogateescape") for field in fields]
    if output_format == "nul":
        return b"".join(field + b"\0" for field in data)
    return "".join(f"{''.join(map(_escape_byte, field))}\n" for field in data).encode("ascii")


def _escape_byte(byte: int) -> str:
    char = chr(byte)
    return char if char.isascii() and (char.isalnum() or char in " ./:_-[]") else f"\\0{byte:o}"


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    main(sys.argv[1:])
