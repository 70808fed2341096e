"""What one model does not accept of a request, and making a request fit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a model does not accept.

    Attributes:
        refuses: parameters it answers with an error; `output_config.effort` is one inside another.
        one_of: groups of which it takes only one at a time.
        renames: what it calls a parameter.
        takes: the only parameters there are; empty where the API ignores others.
        highest: largest value of a parameter.
        unsigned_call: what stands for the signature of a tool call that has none; empty where none is wanted.
        after_tools: what the model is made to have said between a tool's result and the user; empty where the
            user may come next.
    """

    refuses: frozenset[str] = frozenset()
    one_of: tuple[tuple[str, ...], ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    highest: Mapping[str, float] = field(default_factory=dict)
    unsigned_call: str = ""
    after_tools: str = ""

    def plus(self, entry: Mapping[str, Any]) -> ModelLimits:
        """Return these limits with those of one entry of the data file."""
        group = tuple(entry.get("one_of", ()))
        return ModelLimits(
            self.refuses | frozenset(entry.get("refuses", ())),
            (*self.one_of, group) if group else self.one_of,
            {**self.renames, **entry.get("renames", {})},
            self.takes | frozenset(entry.get("takes", ())),
            {**self.highest, **entry.get("highest", {})},
            entry.get("unsigned_call", self.unsigned_call),
            entry.get("after_tools", self.after_tools),
        )

    def fit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request as the model takes it: what it would refuse is left out."""
        fitted = {self.renames.get(name, name): value for name, value in body.items()}
        for name in self.refuses:
            outer, _, inner = name.partition(".")
            if not inner:
                fitted.pop(name, None)
            elif isinstance(fitted.get(outer), dict) and inner in fitted[outer]:
                rest = {key: value for key, value in fitted[outer].items() if key != inner}
                fitted = {**fitted, outer: rest} if rest else {k: v for k, v in fitted.items() if k != outer}
        for group in self.one_of:
            for name in [name for name in group if fitted.get(name) is not None][1:]:
                del fitted[name]
        if self.takes:
            fitted = {name: value for name, value in fitted.items() if name in self.takes}
        for name, highest in self.highest.items():
            value = fitted.get(name)
            if isinstance(value, int | float) and value > highest:
                fitted[name] = highest
        if isinstance(fitted.get("messages"), list):
            fitted["messages"] = self._told(fitted["messages"])
        return fitted

    def _told(self, messages: list[Any]) -> list[Any]:
        """Return messages as the model takes them."""
        if self.unsigned_call:
            messages = [_signed(message, self.unsigned_call) for message in messages]
        return _answered(messages, self.after_tools) if self.after_tools else messages

    def fit_bytes(self, body: bytes) -> bytes:
        """Return the bytes of a request as the model takes it; the same bytes where nothing is in its way.

        Args:
            body: a valid JSON object.
        """
        if self == ModelLimits():
            return body
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):  # numbers too long for Python, too deep: the server judges it
            return body
        fitted = self.fit(request)
        return body if fitted == request else json.dumps(fitted, ensure_ascii=False).encode()


def _answered(messages: list[Any], words: str) -> list[Any]:
    """Return messages with an answer of the model's wherever the user speaks right after a tool."""
    answered: list[Any] = []
    before = None
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if (before, role) == ("tool", "user"):
            answered.append({"role": "assistant", "content": words})
        answered.append(message)
        before = role
    return answered


def _signed(message: Any, signature: str) -> Any:
    """Return a message whose first tool call is signed: clients lose Google's field, or never had it."""
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if (
        not isinstance(calls, list)
        or not calls
        or not isinstance(calls[0], dict)
        or "extra_content" in calls[0]
    ):
        return message
    first = {**calls[0], "extra_content": {"google": {"thought_signature": signature}}}
    return {**message, "tool_calls": [first, *calls[1:]]}
