"""What the demo did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import escape

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.demo.demo import Demo


def demonstrated(console: Console, shown: Demo) -> None:
    """Show every request of the demo: tier, reason, speed, and what the model said."""
    rows = [
        (
            escape(answer.request),
            escape(answer.tier) if answer.ok else f"[red]{escape(answer.tier)}, wanted {answer.expected}[/]",
            f"{answer.ttft_ms:.0f}",
            f"{answer.tokens_per_s:.0f}" if answer.tokens_per_s else "-",
            escape(answer.reason),
            escape(", ".join(answer.resident)),
        )
        for answer in shown.requests
    ]
    console.table(("request", "tier", ">ttft ms", ">tok/s", "reason~", "resident then~"), rows)
    console.data("")
    answers = [(escape(answer.request), escape(answer.answer)) for answer in shown.requests]
    console.table(("request", "answer…"), answers)
    verdict = "every request was" if shown.ok else "NOT every request was"
    console.data(f"\n{verdict} answered by the tier the policy names, in {shown.seconds:.1f} s")
    console.data(
        f"{shown.swaps} models swapped out on the way ({shown.swapper} swapper, {shown.engine} llama.cpp)"
    )
    if shown.kept:
        _how_to_talk(console, shown)


def _how_to_talk(console: Console, shown: Demo) -> None:
    body = '{"messages": [{"role": "user", "content": "hello"}]}'
    console.data(
        f"\nThe stack runs at {shown.url}. Talk to it:\n\n"
        f"  curl {shown.url}/v1/chat/completions -d '{body}'\n"
        f"  cd {shown.work_dir} && llmstack run opencode\n\n"
        f"Stop it:\n\n  cd {shown.work_dir} && llmstack stop"
    )
