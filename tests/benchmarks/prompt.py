"""What the shell hook costs: `python tests/benchmarks/prompt.py`, in milliseconds of shell time."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.home import isolated_env
from support.terminal import hook_line, make_project

import llmstack.shell.base
from llmstack.paths import UserDirs

DEPTH, ROUNDS, ENTRIES, TIMES = 20, 100, 1, 15
# In each: `spent` prints the milliseconds since `begin`, divided by its argument.
CLOCK = {
    "bash": "begin() { t=${EPOCHREALTIME/./}; }; "
    "spent() { local d=$(( ${EPOCHREALTIME/./} - t )); echo $((d / $1)); }",
    "zsh": "zmodload zsh/datetime; begin() { t=$EPOCHREALTIME }; "
    "spent() { local -i d=$(( (EPOCHREALTIME - t) * 1000000 / $1 )); echo $d }",
    "fish": "function begin_; set -g t (date +%s%N); end; "
    "function spent; math -s0 '('(date +%s%N)' - '$t') / 1000 / '$argv[1]; end",
}
LOOP = {
    "bash": "begin; for ((i = 0; i < {n}; i++)); do {body}; done; spent {n}",
    "zsh": "begin; for ((i = 0; i < {n}; i++)); do {body}; done; spent {n}",
    "fish": "begin_; for i in (seq {n}); {body}; end; spent {n}",
}
CALL = {"bash": "_llmstack_prompt", "zsh": "_llmstack_prompt", "fish": "__llmstack_prompt"}


def measure(shell: str, directory: Path, outside: Path) -> tuple[float, float]:
    """Return the cost of an unchanged prompt and of entering a directory, in ms."""
    call, loop = CALL[shell], LOOP[shell]
    entering = f"cd {outside}; {call}; cd {directory}; {call}"
    script = "\n".join(
        [
            hook_line(shell),
            CLOCK[shell],
            f"cd {directory}; {call} 2>/dev/null",
            *[loop.format(n=ROUNDS, body=call)] * TIMES,
            *[loop.format(n=ENTRIES, body=f"{entering} 2>/dev/null")] * TIMES,
        ]
    )
    process = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    times_ms = [int(line) / 1000 for line in process.stdout.split()]
    # The minimum: other work on the machine must not count.
    return min(times_ms[:TIMES]), min(times_ms[TIMES:])


def interpreter_cpu_ms(*arguments: str) -> float:
    """Return the CPU time of the interpreter with these arguments, in ms: the minimum of many, as above."""
    spent = []
    for _ in range(4 * TIMES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-I", "-S", *arguments], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent) * 1000


def main() -> None:
    """Measure each shell inside a trusted project, an untrusted one and outside, all 20 levels deep."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        os.environ |= isolated_env(base / "home", os.environ)
        directories = {
            "active": make_project(base / "active").work_dir,
            "untrusted": make_project(base / "untrusted", trusted=False).work_dir,
            "outside": base / "outside",
        }
        print(f"{'shell':8}{'place':12}{'unchanged':>12}{'entering':>12}   (ms, {DEPTH} levels deep)")
        for shell in filter(shutil.which, CALL):
            for name, directory in directories.items():
                deep = directory.joinpath(*["d"] * DEPTH)
                deep.mkdir(parents=True, exist_ok=True)
                unchanged, entered = measure(shell, deep, base)
                print(f"{shell:8}{name:12}{unchanged:12.3f}{entered:12.1f}")
        entry = str(Path(llmstack.shell.base.__file__).with_name("entry.py"))
        trust_file = str(UserDirs.from_env(os.environ).trusted_projects)
        entry_ms, interpreter_ms = (
            interpreter_cpu_ms(entry, "nul", trust_file, str(directories["active"])),
            interpreter_cpu_ms("-c", "pass"),
        )
        print(
            f"the check on entering: {entry_ms:.1f} ms of CPU time;"
            f" the interpreter alone: {interpreter_ms:.1f}"
        )


if __name__ == "__main__":
    main()
