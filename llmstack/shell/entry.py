"""What the hook runs when something changed: `python -I -S entry.py FORMAT STORE WORK_DIR`.

`-I -S` keeps out whatever the environment and site-packages would bring in (a PYTHONPATH of `.` would import
files of the project that is being looked at), and starts in half the time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Print where a project stands: as JSON, or as fields that each end in NUL."""
    from llmstack.fingerprint import STATE_DIR  # noqa: PLC0415 - the path is set below
    from llmstack.shell.standing import Place, standing  # noqa: PLC0415 - likewise

    form, store, work_dir = arguments
    env = dict(os.environ)
    override = env.get("LLMSTACK_MODELS_INI")
    own = Path(work_dir) / STATE_DIR / "models.ini"
    place = Place(Path(work_dir), Path(override).expanduser().absolute() if override else own)
    fields = standing(place, Path(store), env).fields()
    if form == "json":
        import json  # noqa: PLC0415 - 10 ms that only PowerShell needs

        text = json.dumps(fields)
    else:
        text = "".join(f"{field}\0" for field in fields)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    main(sys.argv[1:])
