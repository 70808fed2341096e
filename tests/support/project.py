"""A project in its own directory, used through the command line as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from support.in_process import run_here
from support.net import free_port
from support.waiting import wait_until

from llmstack.llama_cpp.tiny import write_echo, write_random
from llmstack.paths import PrivateFiles, Project, UserDirs

ROLES = {"code-fast": "fast", "code-smart": "agent", "code-ultra": "ultra", "plan": "plan"}


@dataclass
class CliProject:
    """One project: its directory, ports and tiers."""

    directory: Path
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    port: int = field(default_factory=free_port)

    @property
    def state(self) -> Path:
        return self.directory / ".llmstack"

    @property
    def private(self) -> PrivateFiles:
        """Where the project's secrets are."""
        state = Path(self.env.get("XDG_STATE_HOME") or f"{self.env['HOME']}/.local/state") / "llmstack"
        dirs = UserDirs(data=state, cache=state, config=state, state=state, bin=state)
        return dirs.private(Project.at(self.directory, {}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def model(self, tier: str) -> Path:
        return self.directory.parent / "models" / f"{tier}.gguf"

    def write(
        self,
        *,
        defaults: str = "",
        tiers: tuple[str, ...] = tuple(ROLES),
        extra: str = "",
        trusted: bool = True,
    ) -> None:
        """Write a models.ini with these tiers, create their models, and trust the project."""
        text = f"""[DEFAULT]
router_port = {self.port}
swap_port = {free_port()}
litellm_port = {free_port()}
start_port = {free_port()}
cache_ram_gb = 0.02
ctx_size = 16k
threads = 1
{defaults}
[ROUTING]
high_fidelity_ceiling = 500
mid_fidelity_ceiling = 1000
"""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.model("").parent.mkdir(exist_ok=True)
        for tier in tiers:
            write_echo(self.model(tier), speaker=tier)
            text += f"[{tier}]\nrole = {ROLES[tier]}\npath = {self.model(tier)}\n"
        self.state.mkdir(exist_ok=True)
        (self.state / "models.ini").write_text(text + extra)
        if trusted:
            self.trust()

    def trust(self) -> None:
        """Trust the project as it is now."""
        self.run("trust", "--yes").check()

    def add_talker(self) -> None:
        """Add a tier whose answers only end at the token limit."""
        write_random(self.model("talker"), dim=256, layers=6)
        ini = self.state / "models.ini"
        ini.write_text(f"{ini.read_text()}[talker]\npath = {self.model('talker')}\n")

    def install(self, **options: Any) -> None:
        """Write models.ini and install the project."""
        self.write(**options)
        self.run("install", "--trust").check()

    def popen(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "llmstack", *args],
            cwd=self.directory,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def run(self, *args: str) -> CommandResult:
        """Run a command in this process."""
        return CommandResult(*run_here(args, self.env, self.directory))

    def run_process(self, *args: str, timeout: float = 60) -> CommandResult:
        """Run a command in a separate process, as a user does."""
        process = self.popen(*args)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
            process.wait()
        return CommandResult(process.returncode, out, err)

    def start(self, *args: str) -> None:
        self.run("start", *args).check()

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.run("status", "--json").out)
        return status

    def pid(self, name: str = "router") -> int:
        return int(json.loads((self.state / f"{name}.pid").read_text())["pid"])

    def ask(self, prompt: str, model: str = "auto", **options: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **options}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)

    def answer(self, prompt: str, model: str = "auto") -> str:
        return str(self.ask(prompt, model).json()["choices"][0]["message"]["content"])

    def is_answered(self, prompt: str, model: str = "code-fast") -> bool:
        return self.ask(prompt, model).is_success

    def processes(self) -> list[psutil.Process]:
        """Return every process that serves this project: the directory is in its command line."""
        processes = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            is_ours = str(self.directory.parent) in line and "llmstack." in line
            if is_ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                processes.append(process)
        return processes

    def close(self) -> None:
        """Stop the stack, and fail if a process is left running."""
        if (self.state / "router.pid").exists():
            self.run("stop", "--timeout", "5")
        try:
            wait_until(lambda: not self.processes(), timeout=5)
        except TimeoutError:
            command_lines = [process.cmdline() for process in self.processes()]
            for process in self.processes():
                process.kill()
            raise AssertionError(f"left running: {command_lines}") from None


@dataclass(frozen=True)
class CommandResult:
    """The output of a command and its exit code."""

    code: int
    out: str
    err: str

    def check(self) -> CommandResult:
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self


def decisions(project: CliProject) -> list[tuple[str, str, str]]:
    """Return the router's last decisions: requested model, tier and outcome."""
    recent = httpx.get(f"{project.url}/llmstack/status").json()["recent"]
    return [(record["asked"], record["tier"], record["outcome"]) for record in recent]
