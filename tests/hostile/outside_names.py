"""Every place where a name from outside becomes a path on this machine, used through its public entry."""

from __future__ import annotations

import asyncio
import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.hub import COMMIT
from support.releases import tar_gz

from llmstack.config import parse
from llmstack.config.bundled import profile_text
from llmstack.download.retry import FetchLimits
from llmstack.hub.files import Hub
from llmstack.llama_cpp.weights import find_weights
from llmstack.paths import Project
from llmstack.serving.kv.files import PromptCacheFiles
from llmstack.serving.llama_swap.release import ReleaseInstaller
from llmstack.stack.download.state import DownloadDir
from llmstack.stack.logs import read_last_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from router.harness import RunningRouter
    from support.hub import FakeHub
    from support.releases import ReleasePage

    from llmstack.config.model import Tier

QUICK = FetchLimits(tries=1, backoff_s=0.01, stall_s=1)
CONTENT = b"from outside"
# `{up}` climbs from any place below the directory of the case, `{root}` is its absolute path. All of these
# would be `secret/m.gguf` there.
NAMES = (
    *("{up}secret/m.gguf", "{root}/secret/m.gguf", "a/{up}../secret/m.gguf", "./{up}secret/m.gguf"),
    *("{up}secret/./m.gguf", "{up}secret//m.gguf", "//{root}/secret/m.gguf"),
    *("file://{root}/secret/m.gguf", "{root}/inside/../secret/m.gguf"),
    *("{up_encoded}secret%2Fm.gguf", "{up_backward}secret\\m.gguf", "{up}secret/m.gguf\0.gguf"),
    *("{up}secret/m.gguf\n", " {up}secret/m.gguf", "m.gguf/{up}../secret/m.gguf"),
    *("..", "../", ".", "/", "~root"),
)  # fmt: skip


@dataclass(frozen=True)
class Outside:
    """What the places need.

    Attributes:
        root: of the case; `root / "inside"` may be written to.
    """

    root: Path
    hub: FakeHub
    page: ReleasePage
    router: RunningRouter

    @property
    def inside(self) -> Path:
        return self.root / "inside" / "a" / "b"

    @property
    def project(self) -> Project:
        return Project.at(self.inside, {})

    def written(self, name: str) -> str:
        up = "../" * 12
        root = str(self.root)
        climbed = f"{up}{root.lstrip('/')}/"
        names = {
            "{up_encoded}": climbed.replace("/", "%2F"),
            "{up_backward}": climbed.replace("/", "\\"),
            "{up}": climbed,
            "{root}": root,
        }
        for placeholder, value in names.items():
            name = name.replace(placeholder, value)
        return name


# Each returns the paths that a name became, or raises LlmstackError.
def _tier(text: str, outside: Outside) -> Tier:
    (tier,) = parse(text, "models.ini", base=outside.inside).tiers.values()
    return tier


def tier_name(name: str, outside: Outside) -> Iterable[Path]:
    tier = _tier(f"[{name}]\nmodel = ollama/x\nctx_size = 8k\n", outside).name
    project = outside.project
    logs = DownloadDir(project.state, project.logs)
    return (project.log(tier), project.pid_file(tier), logs.log_file(tier, "current"))


def hub_repository(name: str, outside: Outside) -> Iterable[Path]:
    tier = _tier(f"[m]\nhf_repo = {name}\nhf_file = m.gguf\nctx_size = 8k\n", outside)
    return _weights(tier, outside)


def hub_file(name: str, outside: Outside) -> Iterable[Path]:
    tier = _tier(f"[m]\nhf_repo = org/name\nhf_file = {name}\nctx_size = 8k\n", outside)
    return _weights(tier, outside)


def _weights(tier: Tier, outside: Outside) -> Iterable[Path]:
    cache = outside.inside / "hub"
    (cache / "models--org--name" / "snapshots" / COMMIT).mkdir(parents=True)
    found = find_weights(tier.model, {"HF_HUB_CACHE": str(cache)})  # type: ignore[arg-type]
    return () if found is None else (found,)


def downloaded_file(name: str, outside: Outside) -> Iterable[Path]:
    outside.hub.files[f"org/name/{name}"] = CONTENT
    return _download(name, outside)


def etag_of_the_hub(name: str, outside: Outside) -> Iterable[Path]:
    outside.hub.files["org/name/m.gguf"] = CONTENT
    outside.hub.linked_etag = _as_header(name)
    return _download("m.gguf", outside)


def commit_of_the_hub(name: str, outside: Outside) -> Iterable[Path]:
    outside.hub.files["org/name/m.gguf"] = CONTENT
    outside.hub.commit = _as_header(name)
    return _download("m.gguf", outside)


def _as_header(name: str) -> str:
    return name.replace("\n", "").replace("\0", "")


def _download(file: str, outside: Outside) -> Iterable[Path]:
    hub = Hub({"HF_ENDPOINT": outside.hub.url}, outside.inside / "hub")

    async def download() -> Path:
        found = await hub.find("org/name", file, limits=QUICK)
        path = await hub.download(found, limits=QUICK)
        hub.publish([found])
        return path

    return (asyncio.run(download()),)


def archive_member(name: str, outside: Outside) -> Iterable[Path]:
    outside.page.archives["251"] = tar_gz((name.replace("\0", ""), CONTENT), ("llama-swap", CONTENT))
    return _install(outside)


def archive_link(name: str, outside: Outside) -> Iterable[Path]:
    outside.page.archives["251"] = tar_gz(("llama-swap", name.replace("\0", "")))
    return _install(outside)


def release_version(name: str, outside: Outside) -> Iterable[Path]:
    outside.page.latest = _as_header(name)
    return _install(outside)


def _install(outside: Outside) -> Iterable[Path]:
    installer = ReleaseInstaller({"LLAMA_SWAP_RELEASES": outside.page.url}, limits=QUICK)
    return (installer.install(outside.inside / "bin").path,)


def session_name(name: str, outside: Outside) -> Iterable[Path]:
    files = PromptCacheFiles(outside.inside / "kv", 10**9)
    path = files.path_for("identity", name)
    return (path, files.part_path(path))


def log_name(name: str, outside: Outside) -> Iterable[Path]:
    outside.project.logs.mkdir(parents=True)
    assert read_last_lines(outside.project, name.removesuffix(".log"), 9) == []
    return ()


def profile_name(name: str, outside: Outside) -> Iterable[Path]:
    assert CONTENT.decode() not in profile_text(name, demo_models=outside.inside)
    return ()


def path_of_the_router(name: str, outside: Outside) -> Iterable[Path]:
    """Ask for the file itself, and below each prefix that names something."""
    for prefix in ("/", "/models.ini/", "/llmstack/", "/v1/models/", "/upstream/", "/llmstack/load/"):
        connection = http.client.HTTPConnection("127.0.0.1", outside.router.port, timeout=10)
        path = "".join(char if char > " " else f"%{ord(char):02x}" for char in f"{prefix}{name}")
        connection.putrequest("GET", path)
        connection.endheaders()
        answer = connection.getresponse()
        assert CONTENT not in answer.read()
        assert answer.status >= 400 or path in {"/models.ini", "/./", "//"}, (path, answer.status)
        connection.close()
    return ()


PLACES: dict[str, Callable[[str, Outside], Iterable[Path]]] = {
    "the name of a tier, of its log and pid file": tier_name,
    "a repository of the hub": hub_repository,
    "a file of a repository": hub_file,
    "a file that is downloaded": downloaded_file,
    "an ETag, the name of a blob": etag_of_the_hub,
    "a commit, the name of a snapshot": commit_of_the_hub,
    "a member of an archive": archive_member,
    "the target of a link in an archive": archive_link,
    "the version of a release, part of a file's name": release_version,
    "the name of a conversation, of its prompt cache": session_name,
    "the name of a log": log_name,
    "the name of a profile": profile_name,
    "the path of a request": path_of_the_router,
}
