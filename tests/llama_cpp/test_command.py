from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind, EngineSettings, GgufModel, RopeScaling, Sampler, Tier
from llmstack.llama_cpp.command import server_env, server_flags

if TYPE_CHECKING:
    from llmstack.config.model import Serves

MINIMAL = Tier("plan", BackendKind.GGUF, GgufModel(path=Path("/m/plan.gguf")), 32_768)
FULL = Tier(
    "code-fast",
    BackendKind.GGUF,
    GgufModel(path=Path("/m/a b.gguf")),
    131_072,
    sampler=Sampler(temp=0.2, top_p=0.9, top_k=1_000_000, min_p=0.0123456789, rep_pen=1.05),
    engine=EngineSettings(
        n_gpu_layers=999,
        parallel=3,
        cache_ram_gb=0.5,
        flash_attn="auto",
        jinja=False,
        threads=6,
        cache_type_k="f16",
        cache_type_v="q4_0",
        rope_scaling=RopeScaling("yarn", 4.0, 32_768),
        chat_template="/t/chat.jinja",
        extra_args=("--slot-save-path", "/s"),
    ),
)


def flags(tier: Tier) -> str:
    path = tier.model.path if isinstance(tier.model, GgufModel) else None
    assert path is not None
    return "|".join(server_flags(tier, path))


def test_flags_of_a_minimal_tier() -> None:
    assert flags(MINIMAL) == (
        "--model|/m/plan.gguf|--alias|plan|--ctx-size|65536|--parallel|2"
        "|--flash-attn|on|--cache-type-k|q8_0|--cache-type-v|q8_0|--cache-ram|1024|--metrics|--jinja"
    )


def test_flags_of_a_full_tier() -> None:
    assert flags(FULL) == (
        "--model|/m/a b.gguf|--alias|code-fast|--ctx-size|393216|--parallel|3"
        "|--flash-attn|auto|--cache-type-k|f16|--cache-type-v|q4_0|--cache-ram|512|--metrics|--no-jinja"
        "|--n-gpu-layers|999|--threads|6|--rope-scaling|yarn|--rope-scale|4.0|--yarn-orig-ctx|32768"
        "|--chat-template-file|/t/chat.jinja|--temp|0.2|--top-p|0.9|--top-k|1000000|--min-p|0.0123456789"
        "|--repeat-penalty|1.05|--slot-save-path|/s"
    )


def test_a_chat_template_is_a_name_a_file_or_jinja_text() -> None:
    def template(value: str) -> list[str]:
        engine = EngineSettings(chat_template=value)
        tier = Tier("t", BackendKind.GGUF, GgufModel(path=Path("/m")), 1, engine=engine)
        return list(server_flags(tier, Path("/m"))[-2:])

    assert template("chatml") == ["--chat-template", "chatml"]
    assert template("my.jinja") == ["--chat-template-file", "my.jinja"]
    assert template("templates/x") == ["--chat-template-file", "templates/x"]
    jinja = "{{ messages[0].content }}</s>"
    assert template(jinja) == ["--chat-template", jinja]


def test_the_environment_of_a_model_server_holds_no_secrets() -> None:
    allowed = {
        "PATH": "/bin",
        "HOME": "/h",
        "CUDA_VISIBLE_DEVICES": "0",
        "GGML_CUDA_FORCE_MMQ": "1",
        "HSA_OVERRIDE_GFX_VERSION": "1",
        "OMP_NUM_THREADS": "4",
        "LD_LIBRARY_PATH": "/l",
        "KEYBOARD": "us",
        "TOKENIZERS_PARALLELISM": "true",
    }
    scrubbed = [
        *("LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_API_KEY", "LLAMA_API_KEY", "LLAMA_LOG_FILE", "LLAMA_OFFLINE"),
        *("LLMSTACK_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN", "HF_TOKEN", "GITHUB_TOKEN", "TOKEN"),
        *(
            "AWS_SECRET_ACCESS_KEY",
            "AWS_PROFILE",
            "DB_PASSWORD",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "my_api_key",
        ),
        *("GEMINI_API_KEYS", "CLIENT_SECRET", "API_KEY"),
    ]
    env = server_env({**allowed, **dict.fromkeys(scrubbed, "x")})
    added = {"LLAMA_ARG_CORS_ORIGINS": "http://127.0.0.1", "PYTHONUNBUFFERED": "1"}
    assert env == allowed | added


def test_embedding_and_reranking_servers_read_an_input_in_one_batch() -> None:
    batch = ["--batch-size", "512", "--ubatch-size", "512"]

    def tail(serves: Serves) -> list[str]:
        tier = replace(MINIMAL, ctx_size=512, serves=serves)
        return list(server_flags(tier, Path("/m"))[len(server_flags(MINIMAL, Path("/m"))) :])

    assert tail("chat") == []
    assert tail("embedding") == ["--embeddings", *batch]
    assert tail("rerank") == ["--embeddings", "--pooling", "rank", *batch]
