"""The result of `demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.console import escape

if TYPE_CHECKING:
    from llmstack.console import Console
    from llmstack.stack.demo.demo import DemoResult


def show_demo(console: Console, result: DemoResult) -> None:
    """Show every request of the demo: tier, reason, speed and answer."""
    rows = [
        (
            escape(answer.request),
            escape(answer.tier)
            if answer.ok
            else f"[red]{escape(answer.tier)}, expected {answer.expected}[/]",
            f"{answer.ttft_ms:.0f}",
            f"{answer.tokens_per_s:.0f}" if answer.tokens_per_s else "-",
            escape(answer.reason),
            escape(", ".join(answer.resident)),
        )
        for answer in result.requests
    ]
    console.table(("request", "tier", ">ttft ms", ">tok/s", "reason~", "loaded~"), rows)
    console.print("")
    answers = [(escape(answer.request), escape(answer.answer)) for answer in result.requests]
    console.table(("request", "answer…"), answers)
    verdict = "every request was" if result.ok else "NOT every request was"
    console.print(f"\n{verdict} answered by the tier that the policy names, in {result.seconds:.1f} s")
    console.print(f"{result.swaps} models swapped out ({result.swapper} swapper, {result.engine} llama.cpp)")
    if result.is_running:
        _show_next_steps(console, result)


def _show_next_steps(console: Console, result: DemoResult) -> None:
    body = '{"messages": [{"role": "user", "content": "hello"}]}'
    console.print(
        f"\nThe stack runs at {result.url}. Try it:\n\n"
        f"  curl {result.url}/v1/chat/completions -d '{body}'\n"
        f"  cd {result.work_dir} && llmstack run opencode\n\n"
        f"Stop it:\n\n  cd {result.work_dir} && llmstack stop"
    )
