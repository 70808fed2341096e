"""Detect secrets in models.ini, which must not contain any because it is meant to be committed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmstack.errors import Problem

if TYPE_CHECKING:
    from llmstack.config.ini import IniEntry

# Matches whole keys: `token` and `hf_token` hold a secret, `max_output_tokens` and `api_key_env` do not.
_KEYS = re.compile(
    r"(.+[_.-])?"
    r"(api)?(key|token|secret|password|passwd|passphrase|credentials?|authorization|bearer|role_arn|arn)"
    r"([_.-]id)?"
)
_VALUES = re.compile(
    r"""
    ^sk-\S | (?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{6,}                # OpenAI, Anthropic and similar
    | (?<![A-Za-z0-9])(AKIA|ASIA)[A-Z0-9]{8,}                    # AWS
    | \barn:aws[a-z-]*:
    | (?<![A-Za-z0-9])(gh[opsu]_|github_pat_|glpat-|hf_|gsk_|xai-|AIza|xox[abp]-)[A-Za-z0-9_-]{16,}
    | (?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}    # a JWT
    | -----BEGIN\s
    | \b[Bb]earer\s+\S{8,}
    | ://[^\s/@]*:[^\s/@]+@                                      # a password in a URL
    | --(api-key|hf-token|token|password|secret)[=\s]            # a secret in an argument list
    | [A-Z0-9]_(API_KEY|TOKEN|SECRET|PASSWORD)=\S
    """,
    re.VERBOSE,
)


def secret_problem(entry: IniEntry) -> Problem | None:
    """Return a problem if an entry holds a secret; the problem never contains its value."""
    if _KEYS.fullmatch(entry.key):
        message = f"{entry.key}: secrets do not belong in this file, which is meant to be committed"
        return Problem(entry.line, entry.section, message, _hint(entry.key))
    if _VALUES.search(entry.value):
        message = f"{entry.key}: the value looks like a secret, and this file is meant to be committed"
        return Problem(entry.line, entry.section, message, _hint(""))
    return None


def _hint(key: str) -> str:
    """Return where the secret belongs; a key such as `aws_secret_access_key` already names the variable."""
    names_variable = re.fullmatch(r"[a-z0-9]+_[a-z0-9_]+", key) and key != "api_key"
    variable = key.upper() if names_variable else "<PROVIDER>_API_KEY"
    return (
        f"remove it here and export `{variable}` in the environment instead; if it was committed, revoke it"
    )
