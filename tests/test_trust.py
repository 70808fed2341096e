from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import sample

from llmstack import disclosure, fingerprint, paths, trust
from llmstack.config import ini
from llmstack.errors import LlmstackError
from llmstack.paths import Project
from llmstack.trust import Trust, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODELS_INI = """\
; the models of this project
[DEFAULT]
host = 127.0.0.1
parallel = 2

[code-fast]
role = fast
hf_repo = acme/tiny-GGUF
hf_file = tiny.gguf
ctx_size = 64k   ; tokens
extra_args = --mlock   ; keep it in memory

[plan]
model = ollama/qwen:7b
base_url = http://127.0.0.1:11434
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and owners are those of POSIX")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make(tmp_path / "work")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "data" / "trusted.toml"


def make(work_dir: Path) -> Project:
    project = Project.at(work_dir, {})
    project.state.mkdir(parents=True)
    project.models_ini.write_text(MODELS_INI)
    project.opencode_json.write_text('{"model": "llama.cpp/auto"}')
    project.litellm_config.write_text("model_list:\n")
    project.default_channel.write_text("current\n")
    project.agents_md.write_text("Be kind.\n")
    return project


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(LlmstackError) as caught:
        action()
    return f"{caught.value.message} | {caught.value.hint}"


def test_a_project_is_trusted_once_granted_and_not_after_it_was_revoked(
    project: Project, store: Path
) -> None:
    hint = (
        f"run `llmstack trust` in {project.work_dir}: it shows what the project's files would run, then asks"
    )
    assert trust.check(project, store) == Trust(Verdict.UNKNOWN)
    assert error_of(lambda: trust.require(project, store)) == (
        f"this project is not trusted: {project.work_dir} | {hint}"
    )
    trust.grant(project, store)
    trust.require(project, store)
    assert trust.check(project, store) == Trust(Verdict.TRUSTED)
    project.opencode_json.write_text("{}")
    assert error_of(lambda: trust.require(project, store)) == (
        f"changed since this project was trusted: opencode.json (in {project.work_dir}) | {hint}"
    )
    assert trust.revoke(project.work_dir, store)
    assert not trust.revoke(project.work_dir, store)
    assert trust.check(project, store) == Trust(Verdict.UNKNOWN)


def test_what_is_remembered(project: Project, store: Path) -> None:
    trust.grant(project, store)
    trust.grant(project, store)
    document = tomllib.loads(store.read_text())
    (record,) = document["project"]
    assert record.pop("trusted_at").tzinfo is not None
    owner = {} if sys.platform == "win32" else {"owner": project.state.stat().st_uid}
    assert record == {"path": str(project.work_dir), "files": fingerprint.fingerprint(project)} | owner
    assert sorted(record["files"]) == [
        "default-channel",
        "litellm_config.yaml",
        "models.ini",
        "opencode.json",
    ]
    if sys.platform != "win32":
        assert store.stat().st_mode & 0o777 == 0o600


ASKS_NOTHING = {
    "nothing": ("", ""),
    "context": ("ctx_size = 64k", "ctx_size = 32k"),
    "comment": ("; tokens", "; tokens for one request"),
    "comment behind a program": ("; keep it in memory", "; pinned"),
    "comment line": ("; the models", "# all the models"),
    "blanks": ("extra_args = --mlock", "  EXTRA_ARGS\t=  --mlock"),
    "windows newlines": ("\n", "\r\n"),
    "byte order mark": ("; the", "\ufeff; the"),
    "file at the hub": ("tiny.gguf", "tiny-v2.gguf"),
    "role": ("role = fast", "role = agent"),
    "port": ("[code-fast]", "router_port = 11\n[code-fast]"),
    "sampler added": ("role = fast", "sampler = temp=0.2, top_p=0.9\nrole = fast"),
    "description with anything": ("role = fast", "description = extra_args = --x [y]\nrole = fast"),
    "model of the same provider": ("ollama/qwen:7b", "ollama/llama:8b"),
    "tier added": ("[plan]", "[other]\npath = /models/x.gguf\n[plan]"),
    "routing": ("[plan]", "[ROUTING]\nmulti_turn = 3\n[plan]"),
    "order": ("host = 127.0.0.1\nparallel = 2", "parallel = 2\nhost = 127.0.0.1"),
    "program commented": ("role = fast", "; command = rm\nrole = fast"),
}
ASKS = {
    "extra_args": ("--mlock", "--mlock --log-file /x"),
    "extra_args after a close semicolon": ("--mlock", "--mlock ;--x"),
    "extra_args in quotes": ("--mlock", '--x " ; y"'),
    "removed": ("extra_args = --mlock   ; keep it in memory\n", ""),
    "other tier": ("[code-fast]", "[plan2]"),
    "base_url": ("11434", "11435"),
    "host": ("127.0.0.1\n", "0.0.0.0\n"),
    "allowed_hosts": ("[code-fast]", "allowed_hosts = evil.example\n[code-fast]"),
    "api_key_env": ("[code-fast]", "api_key_env = AWS_SECRET\n[code-fast]"),
    "shared extra_args": ("parallel = 2", "extra_args = --x"),
    "chat_template": ("role = fast", "chat_template = x"),
    "command": ("role = fast", "command = x"),
    "tool": ("role = fast", "tool = x"),
    "backend": ("role = fast", "backend = mcp"),
    "provider": ("ollama/qwen", "openai/qwen"),
    "model with an address": ("ollama/qwen:7b", "ollama/https://evil.example"),
    "model without a provider": ("ollama/qwen:7b", "qwen"),
    "queued provider": ("[plan]", "[plan]\nmodel_next = openai/x"),
    "file at an address": ("hf_file = tiny.gguf", r"path = \\evil\share\x.gguf"),
    "unknown key": ("role = fast", "plugin = x"),
}


@pytest.mark.parametrize("change", ASKS_NOTHING.values(), ids=ASKS_NOTHING)
def test_an_edit_that_asks_nothing(project: Project, store: Path, change: tuple[str, str]) -> None:
    trust.grant(project, store)
    assert edit(project, change) == Trust(Verdict.TRUSTED) == trust.check(project, store)


@pytest.mark.parametrize("change", ASKS.values(), ids=ASKS)
def test_an_edit_that_asks(project: Project, store: Path, change: tuple[str, str]) -> None:
    trust.grant(project, store)
    edit(project, change)
    assert trust.check(project, store) == Trust(Verdict.CHANGED, ("models.ini",))


def edit(project: Project, change: tuple[str, str]) -> Trust:
    old, new = change
    text = MODELS_INI.replace(old, new) if old else MODELS_INI
    assert text != MODELS_INI or not old
    project.models_ini.write_bytes(text.encode())
    return Trust(Verdict.TRUSTED)


SMUGGLED = {
    "case": b"EXTRA_Args = --evil",
    "tabs": b"\t\textra_args\t=\t--evil",
    "no blanks": b"extra_args=--evil",
    "carriage return": b"description = x\rextra_args = --evil",
    "vertical tab": b"description = x\x0bextra_args = --evil",
    "form feed": b"description = x\x0cextra_args = --evil",
    "file separator": b"description = x\x1cextra_args = --evil",
    "next line": "description = x\x85extra_args = --evil".encode(),
    "line separator": "description = x\u2028extra_args = --evil".encode(),
    "paragraph separator": "; note\u2029extra_args = --evil".encode(),
    "null": b"description = x\0extra_args = --evil",
    "byte order mark": "\ufeffextra_args = --evil".encode(),
    "no-break space": "\u00a0extra_args = --evil".encode(),
    "no-break space after": "extra_args\u00a0= --evil".encode(),
    "ideographic space": "\u3000extra_args\u3000=\u3000--evil".encode(),
    "kelvin sign": "to\u212aen = --evil".encode(),
    "long s": "extra_arg\u017f = --evil".encode(),
    "zero width": "extra\u200b_args = --evil".encode(),
    "not UTF-8": b"description = \xff\nextra_args = --evil",
    "colon": b"extra_args: --evil",
    "colon then equals": b"description: x = --evil",
    "second section": b"[code-fast]\nextra_args = --evil",
    "shared": b"[DEFAULT]\nextra_args = --evil",
    "broken header": b"[code-fast\nextra_args = --evil",
    "header with a tail": b"[code-fast] extra_args = --evil",
    "header with a hash": b"[x] # y\nextra_args = --evil",
    "odd header": "[x\u00a0]\nextra_args = --evil".encode(),
    "header behind a no-break space": "\u00a0[x]\nextra_args = --evil".encode(),
    "continuation": b"extra_args =\n  --evil",
    "twice": b"extra_args = --fine\nextra_args = --evil",
    "comment that is none": b"extra_args = --fine;--evil",
    "comment behind a no-break space": "extra_args = --fine\u00a0;--evil".encode(),
    "comment in quotes": b'extra_args = "--fine ; --evil"',
    "comment before the key": b"extra_args ;x = --evil",
}


@pytest.mark.parametrize("smuggled", SMUGGLED.values(), ids=SMUGGLED)
def test_no_spelling_hides_a_program(project: Project, store: Path, smuggled: bytes) -> None:
    trust.grant(project, store)
    text = MODELS_INI.encode()
    for changed in (text + smuggled + b"\n", smuggled + b"\n" + text, text.replace(b"role = fast", smuggled)):
        project.models_ini.write_bytes(changed)
        assert trust.check(project, store) == Trust(Verdict.CHANGED, ("models.ini",))
        shown = [line for line in disclosure.programs(project) if "--evil" in line or "extra_args =" in line]
        assert shown
    project.models_ini.write_bytes(text + smuggled + b"\n")
    trust.grant(project, store)
    project.models_ini.write_bytes(text + smuggled.replace(b"--evil", b"--worse") + b"\n")
    assert trust.check(project, store) == Trust(Verdict.CHANGED, ("models.ini",))


def mostly(plain: str, *odd: str) -> st.SearchStrategy[str]:
    """Return `plain` nine times in ten: one odd character is enough to make a whole text count."""
    return st.integers(0, 9 * len(odd)).map(lambda number: odd[number] if number < len(odd) else plain)


BLANK = mostly(" ", "", "\t", "  ", "\xa0", "\u3000", "\v", "\0", "\ufeff")
KEYS = [
    "extra_args",
    "Extra_ARGS",
    "command",
    "description",
    "ctx_size",
    "model",
    "base_url",
    "path",
    "x.y-z",
]
VALUES = [
    "",
    "--x",
    "a=b",
    "ollama/x",
    "openai/y",
    "http://e",
    '"a ; b"',
    "a;b",
    "a # b",
    "[a]",
    "x ;y",
    "\\ ;",
]
TAILS = mostly("", " ; note", "\t;", " ;note", ";note", "\xa0; note", " # note", " extra_args = --y")
SETTINGS = st.tuples(
    mostly("", " ", "\t", "\xa0", ";", "#"),
    st.sampled_from(KEYS),
    BLANK,
    mostly("=", ":", "==", " ;="),
    BLANK,
    st.sampled_from(VALUES),
    TAILS,
).map("".join)
HEADERS = st.tuples(
    mostly("", " ", "\xa0"), st.sampled_from(["[a]", "[b]", "[ a ]", "[DEFAULT]"]), TAILS
).map("".join)
ENDS = mostly("\n", "\r\n", "\r", "\f", "\x1c", "\x85", "\u2028")
LINES = st.tuples(st.one_of(HEADERS, SETTINGS, SETTINGS), ENDS).map("".join)


@sample(500)
@given(st.lists(LINES, max_size=6).map(lambda lines: "[a]\n" + "".join(lines)))
def test_whatever_the_parser_sees_counts(text: str) -> None:
    counted = fingerprint.settings_that_count(text.encode())
    if counted is None:
        return
    for section in ini.scan(text).sections:
        for entry in section.entries:
            if entry.key in fingerprint.FREE_KEYS:
                continue
            same = [
                one.value for one in counted if (one.section.strip(), one.key) == (section.name, entry.key)
            ]
            if entry.key in {"model", "model_next"}:
                provider = entry.value.split("/")[0]
                assert any(value.startswith(provider) for value in same)
            else:
                assert any(entry.value in value for value in same)


OTHER_FILES = {
    "default-channel": ("default-channel", "external http://evil.example\n", True),
    "opencode.json": ("opencode.json", "{}", True),
    "litellm_config.yaml": ("litellm_config.yaml", "litellm_settings: {callbacks: evil.x}\n", True),
    "a callback": ("evil.py", "print()", True),
    "a nested callback": ("deep/er/evil.py", "print()", True),
    "an included configuration": ("more.yaml", "x: y", True),
    "active-channel elsewhere": ("active-channel", "external http://evil.example\n", True),
    "active-channel next": ("active-channel", "next\n", False),
    "active-channel current": ("active-channel", "current\n", False),
    "agent's instructions": ("AGENTS.md", "Be quick.\n", False),
    "generated at each start": ("llama-swap.yaml", "models: {}\n", False),
    "a pid file": ("router.pid", "{}", False),
    "a log": ("logs/router.log", "up\n", False),
}


@pytest.mark.parametrize(("name", "text", "asks"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_other_files(project: Project, store: Path, name: str, text: str, asks: bool) -> None:  # noqa: FBT001
    trust.grant(project, store)
    (project.state / name).parent.mkdir(parents=True, exist_ok=True)
    (project.state / name).write_text(text)
    expected = Trust(Verdict.CHANGED, (name,)) if asks else Trust(Verdict.TRUSTED)
    assert trust.check(project, store) == expected


def test_a_file_that_is_gone_asks_nothing(project: Project, store: Path) -> None:
    project.default_channel.write_text("external http://a.example:1\n")
    project.active_channel.write_text("external http://a.example:1\n")
    trust.grant(project, store)
    project.active_channel.unlink()
    project.litellm_config.unlink()
    assert trust.check(project, store) == Trust(Verdict.TRUSTED)


def test_another_place_or_another_project_in_the_same_place(
    tmp_path: Path, project: Project, store: Path
) -> None:
    trust.grant(project, store)
    project.work_dir.rename(tmp_path / "moved")
    moved = Project.at(tmp_path / "moved", {})
    assert trust.check(moved, store) == Trust(Verdict.UNKNOWN)
    other = make(project.work_dir)
    other.models_ini.write_text("[x]\ncommand = evil\n")
    assert trust.check(other, store) == Trust(Verdict.CHANGED, ("models.ini",))
    assert [found for _, found in trust.entries(store)] == [Trust(Verdict.CHANGED, ("models.ini",))]


def test_a_models_ini_from_the_environment_counts_too(tmp_path: Path, project: Project, store: Path) -> None:
    mine = tmp_path / "mine.ini"
    mine.write_text("[x]\ncommand = a\n")
    trust.grant(project, store)
    other = Project.at(project.work_dir, {"LLMSTACK_MODELS_INI": str(mine)})
    assert trust.check(other, store) == Trust(Verdict.CHANGED, (str(mine),))
    trust.grant(other, store)
    assert trust.check(other, store) == trust.check(project, store) == Trust(Verdict.TRUSTED)
    assert disclosure.programs(other)[0] == "mine.ini: [x] command = a"


def test_the_list(tmp_path: Path, store: Path) -> None:
    first, second, third = (make(tmp_path / name) for name in ("a", "b", 'c "quoted" \x1b\x7f\n'))
    for project in (first, second, third):
        trust.grant(project, store)
    second.state.rename(tmp_path / "gone")
    assert [(record.path, found) for record, found in trust.entries(store)] == [
        (str(first.work_dir), Trust(Verdict.TRUSTED)),
        (str(second.work_dir), None),
        (str(third.work_dir), Trust(Verdict.TRUSTED)),
    ]
    assert trust.revoke(second.work_dir, store)
    assert len(trust.entries(store)) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_text(tmp_path: Path, project: Project, store: Path) -> None:
    odd = make(tmp_path / "\udcff")
    assert error_of(lambda: trust.grant(odd, store)) == (
        f"cannot remember a name that is not UTF-8: {tmp_path}/\\udcff | rename it"
    )
    trust.grant(project, store)
    (project.state / "\udcff.py").write_text("")
    assert trust.check(project, store) == Trust(Verdict.CHANGED, ("\udcff.py",))
    assert error_of(lambda: trust.require(project, store)).startswith(
        "changed since this project was trusted: \\udcff.py (in "
    )
    assert error_of(lambda: trust.grant(project, store)) == (
        "cannot remember a name that is not UTF-8: \\udcff.py | rename it"
    )


def test_what_changed_while_it_was_shown_is_not_trusted(project: Project, store: Path) -> None:
    seen = fingerprint.fingerprint(project)
    project.opencode_json.write_text('{"plugin": ["evil"]}')
    assert error_of(lambda: trust.grant(project, store, seen=seen)) == (
        f"the project's files changed while you were asked: {project.work_dir}"
        " | look at them again: `llmstack trust`"
    )
    assert trust.check(project, store) == Trust(Verdict.UNKNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "",
        "other = 1",
        "project = 'x'",
        "[[project]]\npath = 1",
        "[[project]]\npath = 'x'\ntrusted_at = 2026-01-01T00:00:00Z\n[project.files]\na = 1",
        "\udcff",
    ],
)
def test_a_broken_list_is_an_error_and_stays_as_it_is(project: Project, store: Path, text: str) -> None:
    store.parent.mkdir()
    store.write_bytes(text.encode(errors="surrogateescape"))
    before = store.read_bytes()
    for action in (
        lambda: trust.check(project, store),
        lambda: trust.grant(project, store),
        lambda: trust.revoke(project.work_dir, store),
        lambda: trust.entries(store),
    ):
        message = error_of(action)
        assert message.startswith(f"{store}: expected the list of trusted projects, got something else: ")
        assert message.endswith(
            " | mend it, or delete it and trust your projects again with `llmstack trust`"
        )
    assert store.read_bytes() == before


def test_no_project(tmp_path: Path, store: Path) -> None:
    project = Project.at(tmp_path, {})
    assert error_of(lambda: trust.check(project, store)) == (
        f"no such directory: {tmp_path / '.llmstack'} | make a project of it: `llmstack install`"
    )
    project.state.write_text("")
    assert "is not a directory" in error_of(lambda: trust.check(project, store))


@posix
def test_a_state_dir_that_is_a_link(tmp_path: Path, project: Project, store: Path) -> None:
    other = Project.at(tmp_path / "other", {})
    other.work_dir.mkdir()
    other.state.symlink_to(project.state)
    for action in (lambda: trust.check(other, store), lambda: trust.grant(other, store)):
        assert error_of(action) == (
            f"{other.state} is a link to another place | remove the link, then run `llmstack install`"
        )


@posix
def test_a_work_dir_that_is_a_link_is_the_project_it_leads_to(
    tmp_path: Path, project: Project, store: Path
) -> None:
    (tmp_path / "link").symlink_to(project.work_dir)
    trust.grant(Project.at(tmp_path / "link", {}), store)
    assert trust.check(project, store) == Trust(Verdict.TRUSTED)


@posix
@pytest.mark.parametrize("name", ["models.ini", "AGENTS.md", "logs", "zdotdir/.zshrc"])
@pytest.mark.parametrize("target", ["/etc", "/nowhere/at/all", "../../../outside"])
def test_links_that_lead_out(project: Project, store: Path, name: str, target: str) -> None:
    path = project.state / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    assert error_of(lambda: trust.check(project, store)) == (
        f"{path} is a link that leads out of the project | replace it with a file of its own"
    )


@posix
def test_a_link_within_the_project(project: Project, store: Path) -> None:
    project.models_ini.rename(project.work_dir / "models.ini")
    project.models_ini.symlink_to("../models.ini")
    trust.grant(project, store)
    (project.work_dir / "models.ini").write_text("[x]\ncommand = evil\n")
    assert trust.check(project, store) == Trust(Verdict.CHANGED, ("models.ini",))


@posix
def test_somebody_elses(project: Project, store: Path) -> None:
    me = os.getuid()
    stranger = me + 1
    message = error_of(lambda: trust.refuse_unsafe_dir(project, uid=stranger))
    assert message == (
        f"{project.state} belongs to another user (user id {me}, you are {stranger})"
        " | work in a copy of your own, or change its owner once you have read what is in it"
    )
    trust.refuse_unsafe_dir(project, uid=0)  # root, in a project that is somebody's as a whole
    if me:
        return  # only root can give files away
    trust.grant(project, store)
    os.chown(project.state, 4321, -1)
    assert "user id 4321, you are 0" in error_of(lambda: trust.check(project, store))
    os.chown(project.work_dir, 4321, -1)
    assert trust.check(project, store) == Trust(Verdict.CHANGED, ("owner",))


@posix
def test_a_pipe_does_not_hang_the_prompt(project: Project, store: Path) -> None:
    trust.grant(project, store)
    project.opencode_json.unlink()
    os.mkfifo(project.opencode_json)
    message = f"{project.opencode_json} is not a plain file | remove it"
    assert error_of(lambda: trust.check(project, store)) == message


def test_a_huge_file(project: Project, store: Path) -> None:
    trust.grant(project, store)
    with project.opencode_json.open("wb") as file:
        file.truncate(fingerprint.MAX_BYTES + 1)
    message = f"{project.opencode_json} is larger than 4 MiB | remove it"
    assert error_of(lambda: trust.check(project, store)) == message


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", ["[", "[x] ", "x = y ", "x ", "x = ;", '"'])
def test_no_text_takes_long(line: str) -> None:
    fingerprint.settings_that_count((line + " " * 3_000_000 + "!").encode())
    fingerprint.settings_that_count((line * 500_000).encode())


GRANT_ALL = """
import sys
from pathlib import Path
from llmstack import trust
from llmstack.paths import Project
store, *work_dirs = map(Path, sys.argv[1:])
for work_dir in work_dirs:
    trust.grant(Project.at(work_dir, {}), store)
"""


def test_two_at_once_lose_nothing(tmp_path: Path, store: Path) -> None:
    work_dirs = [[make(tmp_path / f"{half}{number}").work_dir for number in range(10)] for half in "ab"]
    processes = [subprocess.Popen([sys.executable, "-c", GRANT_ALL, store, *half]) for half in work_dirs]
    assert [process.wait(60) for process in processes] == [0, 0]
    listed = {record.path: found for record, found in trust.entries(store)}
    assert listed == {str(path): Trust(Verdict.TRUSTED) for half in work_dirs for path in half}


def test_a_check_imports_the_standard_library_alone(project: Project, store: Path) -> None:
    trust.grant(project, store)
    code = (
        "import json, sys, types\nfrom pathlib import Path\n"
        "from llmstack import trust\n"
        "project = types.SimpleNamespace(work_dir=Path(sys.argv[1]), models_ini=Path(sys.argv[2]))\n"
        "trust.require(project, Path(sys.argv[3]))\n"
        "print(json.dumps([name for name in sys.modules if getattr(sys.modules[name], '__file__', None)]))\n"
    )
    arguments = [str(project.work_dir), str(project.models_ini), str(store)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(project_root())},
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded - set(sys.stdlib_module_names) - {"__main__"} == {"llmstack"}
    modules = {name for name in json.loads(done.stdout) if name.startswith("llmstack")}
    assert modules == {"llmstack", "llmstack.errors", "llmstack.fingerprint", "llmstack.trust"}


def project_root() -> Path:
    from pathlib import Path  # noqa: PLC0415  used for annotations alone elsewhere

    return Path(trust.__file__).parents[1]


def test_names_are_those_of_paths(project: Project) -> None:
    assert fingerprint.STATE_DIR == paths.STATE_DIR
    assert {project.state / name for name in fingerprint.WHOLE_FILES} == {
        project.default_channel,
        project.opencode_json,
        project.litellm_config,
    }


def test_what_would_run_is_shown(project: Project) -> None:
    project.default_channel.write_text("external http://evil.example\x1b[2J\n")
    (project.state / "hook.py").write_text("")
    project.litellm_config.write_text(
        "model_list:\n- model_name: plan\n  litellm_params:\n    model: openai/x\n"
        "    api_base: http://b.example\nlitellm_settings:\n  drop_params: true\n  callbacks: hook.evil\n"
    )
    project.opencode_json.write_text(
        """{ // as opencode reads it
        "$schema": "https://opencode.ai/config.json", "model": "llama.cpp/auto", "small_model": "openai/x",
        "provider": {"llama.cpp": {"npm": "@ai-sdk/openai-compatible", "name": "{env:SECRET}",
            "options": {"baseURL": "http://127.0.0.1:10101/v1", "timeout": false},
            "models": {"auto": {"limit": {"context": 1000, "output": 10}}}}},
        "agent": {"plan": {"mode": "all", "permission": {"edit": "deny", "bash": "allow"}}},
        "mcp": {"x": {"type": "local", "command": ["sh", "-c", "curl \\u001b]0;evil\\u0007"], "enabled": true
        }},
        "plugin": ["./evil.ts"], "instructions": ["AGENTS.md"], /* and */ "lsp": {},
        "formatter": {"f": {"command": ["f", "// no comment, }"]}},
        }"""
    )
    assert disclosure.programs(project) == [
        "models.ini: [DEFAULT] host = 127.0.0.1",
        "models.ini: [code-fast] extra_args = --mlock",
        "models.ini: [plan] base_url = http://127.0.0.1:11434",
        "models.ini: [plan] model = ollama/…",
        "default-channel: requests go to: external http://evil.example\\x1b[2J",
        "opencode.json: small_model = openai/x",
        "opencode.json: provider.llama.cpp.name = {env:SECRET}",
        "opencode.json: provider.llama.cpp.options.baseURL = http://127.0.0.1:10101/v1",
        "opencode.json: agent.plan.permission.bash = allow",
        "opencode.json: mcp.x.type = local",
        'opencode.json: mcp.x.command = ["sh", "-c", "curl \\u001b]0;evil\\u0007"]',
        "opencode.json: mcp.x.enabled = true",
        'opencode.json: plugin = ["./evil.ts"]',
        'opencode.json: instructions = ["AGENTS.md"]',
        'opencode.json: formatter.f.command = ["f", "// no comment, }"]',
        "litellm_config.yaml: model: openai/x",
        "litellm_config.yaml: api_base: http://b.example",
        "litellm_config.yaml: callbacks: hook.evil",
        "hook.py: may be loaded by LiteLLM",
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "last"),
    [
        (
            "[" * 100_000,
            "opencode.json: " + "[" * disclosure.MAX_LINE + "… (99700 more characters: read the file)",
        ),
        ('{"a":' * 60 + "1" + "}" * 60, "opencode.json: a.a.a = … nested too deep to show"),
        (json.dumps({"mcp": {str(n): "x" for n in range(5000)}}), "opencode.json: … and more: read the file"),
        ("not\x1b json\u202e", "opencode.json: not\\x1b json\\u202e"),
        ('\\"' * 300_000, None),
        ("/*" * 300_000, None),
        (b"\xff{}".decode("latin-1"), "opencode.json: \xff{}"),
    ],
    ids=["unclosed", "deep", "long", "escapes", "quotes", "comments", "latin"],
)
def test_hostile_json_is_shown_and_bounded(project: Project, text: str, last: str | None) -> None:
    project.models_ini.unlink()
    project.opencode_json.write_text(text)
    lines = disclosure.programs(project)
    assert len(lines) <= disclosure.MAX_LINES + 1
    assert all(line.isprintable() for line in lines)
    assert last in (None, lines[-1])
