"""Run the examples in the documentation and write what they print into it.

    pip install -e '.[engine]'
    python scripts/record_examples.py [FILE…]

In a file, every console block below the line `<!-- recorded -->` is run: each `$ ` line of it is a command,
and what follows is replaced by its output. `<!-- recorded: 8 lines -->` keeps the first eight lines of each
output. Commands that a reader need not see stand in a comment of their own: `<!-- hidden: llmstack stop -->`.

The blocks of one file are one session, from top to bottom: an empty home directory, an empty project
~/src/my-project, one shell's working directory. In the output, the home directory is shown as /home/me.
The ports of llmstack must be free.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOWN_HOME = "/home/me"
LIMIT_S = 600
MARK = re.compile(
    r"<!-- hidden:\s(?P<hidden>.+?) -->"
    r"|<!-- recorded(?:: (?P<lines>\d+) lines)? -->\n(?P<fence>```console\n)(?P<block>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
# What says nothing to a reader and is different each time a program prints to a pipe.
PROGRESS = re.compile(r"^(?:waiting for |loading |reloading$|stopping$|building ).*\n?", re.MULTILINE)


@dataclass(slots=True)
class Session:
    """One shell with an empty home directory."""

    home: Path
    directory: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the project's directory."""
        self.directory = self.home / "src" / "my-project"
        self.directory.mkdir(parents=True)

    def run(self, command: str) -> str:
        """Return what a command prints; `cd` in it lasts."""
        kept = ("PATH", "LANG", "PYTHONPATH", "TMPDIR")
        env = {name: os.environ[name] for name in kept if name in os.environ}
        path = f"{Path(sys.executable).parent}:{env['PATH']}"
        env |= {"HOME": str(self.home), "SHELL": "/bin/bash", "PATH": path}
        script = f"{command}\nstatus=$?; pwd > '{self.home}/.cwd'; exit $status"
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self.directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        self.directory = Path((self.home / ".cwd").read_text(encoding="utf-8").strip())
        if "Traceback (most recent call last)" in done.stdout:
            raise SystemExit(f"$ {command}\n{done.stdout}")
        printed = PROGRESS.sub("", done.stdout.replace("\r\n", "\n"))
        return printed.replace(str(self.home), SHOWN_HOME).rstrip("\n")


def record(text: str, session: Session) -> str:
    """Return a document with the output of its examples as it is now."""

    def replace(mark: re.Match[str]) -> str:
        if hidden := mark["hidden"]:
            session.run(hidden)
            return mark[0]
        commands = re.findall(r"^\$ .*(?:\\\n.*)*", mark["block"], re.MULTILINE)
        shown = []
        for command in commands:
            lines = session.run(command.removeprefix("$ ")).splitlines()
            if mark["lines"] and len(lines) > int(mark["lines"]):
                lines = [*lines[: int(mark["lines"])], "…"]
            shown += [command, *lines]
        start = mark[0].index(mark["fence"]) + len(mark["fence"])
        return mark[0][:start] + "\n".join([*shown, "```"])

    return MARK.sub(replace, text)


def main() -> None:
    """Record the named files, or every one that has a marked block."""
    options = argparse.ArgumentParser(description="Run the examples in the documentation.")
    options.add_argument("files", nargs="*", type=Path)
    files: list[Path] = options.parse_args().files
    for path in files or [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/**/*.md"))]:
        text = path.read_text(encoding="utf-8")
        if not MARK.search(text):
            continue
        with tempfile.TemporaryDirectory() as home:
            session = Session(Path(home).resolve())
            try:
                text = record(text, session)
            finally:
                session.run("cd ~/src/my-project && llmstack stop")
        path.write_text(text, encoding="utf-8")
        print(f"recorded {path}")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
