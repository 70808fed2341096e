"""One request for every routing path of profile `demo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FILLER = "the quick brown fox jumps over the lazy dog and then the model server answers a request "
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request of the demo.

    Attributes:
        name: of the routing path it takes.
        expected: the tier that must answer.
        expected_text: a part of the prompt that the answer must repeat.
        body: the JSON body.
    """

    name: str
    expected: str
    expected_text: str
    body: dict[str, Any]


def demo_requests(filler: str = FILLER) -> list[DemoRequest]:
    """Return a request for every routing path of profile `demo` (ceilings 3 500 and 5 500 tokens)."""

    def chat(text: str, model: str = "auto", **more: Any) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": text}], **more}

    def filler_of(tokens: int) -> str:
        return filler * (tokens * 4 // len(filler) + 1)

    def conversation(context: str, prompt: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": context},
            {"role": "assistant", "content": "noted"},
            {"role": "user", "content": prompt},
        ]

    turns = [
        message
        for number in range(1, 10)
        for message in (
            {"role": "user", "content": f"turn {number}: {filler_of(640)}"},
            {"role": "assistant", "content": "noted"},
        )
    ]

    def auto(name: str, expected: str, expected_text: str, messages: list[dict[str, str]]) -> DemoRequest:
        return DemoRequest(name, expected, expected_text, {"model": "auto", "messages": messages})

    ten_turns = [*turns, {"role": "user", "content": "turn 10: still there?"}]
    return [
        DemoRequest("short", "code-ultra", "capital of France", chat("What is the capital of France?")),
        auto("trigger", "code-ultra", "and this?", conversation(filler_of(4000), "[ultra] and this?")),
        auto("mid", "code-smart", "in range", conversation(filler_of(4000), "Is it in range?")),
        auto("long", "code-fast", "all of it", conversation(filler_of(6000), "And all of it?")),
        auto("long, ten turns", "code-smart", "turn 10", ten_turns),
        DemoRequest("explicit tier", "code-fast", "this line", chat("Complete this line", "code-fast")),
        DemoRequest("alias", "code-smart", "another name", chat("Hello by another name", "agent")),
        DemoRequest("plan", "plan", "build it", chat("How would you build it?", "plan")),
        DemoRequest("streaming", "code-ultra", "by piece", chat("Say it piece by piece", stream=True)),
        DemoRequest(
            "tool call", "code-ultra", "get_weather(", chat("Call get_weather for Paris", tools=[WEATHER])
        ),
    ]
