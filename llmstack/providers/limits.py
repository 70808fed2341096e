"""What one model does not accept in a request, and fitting requests to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a model does not accept. Each attribute is a key of `[[provider.limits]]` in models.toml.

    Attributes:
        refuses: parameters that it answers with an error; `output_config.effort` is a nested one.
        one_of: groups of parameters of which it accepts only one at a time.
        renames: its own name for a parameter, by the usual name.
        takes: the only parameters it accepts; empty if it ignores unknown ones.
        highest: largest value of a parameter.
        unsigned_call: signature to send with a tool call that has none; empty if the model wants none.
        after_tools: assistant message to insert between a tool result and the user's next message; empty if
            the model accepts a user message there.
    """

    refuses: frozenset[str] = frozenset()
    one_of: tuple[tuple[str, ...], ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    highest: Mapping[str, float] = field(default_factory=dict)
    unsigned_call: str = ""
    after_tools: str = ""

    def merge(self, entry: Mapping[str, Any]) -> ModelLimits:
        """Return these limits with those of one entry of models.toml added."""
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
        """Return a request that the model accepts: parameters that it refuses are left out."""
        request = {self.renames.get(name, name): value for name, value in body.items()}
        for name in self.refuses:
            _drop(request, name)
        for group in self.one_of:
            for name in [name for name in group if request.get(name) is not None][1:]:
                del request[name]
        if self.takes:
            request = {name: value for name, value in request.items() if name in self.takes}
        for name, highest in self.highest.items():
            value = request.get(name)
            if isinstance(value, int | float) and value > highest:
                request[name] = highest
        if isinstance(request.get("messages"), list):
            request["messages"] = self._fit_messages(request["messages"])
        return request

    def _fit_messages(self, messages: list[Any]) -> list[Any]:
        if self.unsigned_call:
            messages = [_sign_first_call(message, self.unsigned_call) for message in messages]
        return _separate_tool_and_user(messages, self.after_tools) if self.after_tools else messages

    def fit_bytes(self, body: bytes) -> bytes:
        """Return the body of a request that the model accepts; the same bytes if there is nothing to change.

        Args:
            body: a valid JSON object.
        """
        if self == ModelLimits():
            return body
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):  # a number too long, or nested too deep: let the server decide
            return body
        fitted_request = self.fit(request)
        return body if fitted_request == request else json.dumps(fitted_request, ensure_ascii=False).encode()


def _drop(request: dict[str, Any], name: str) -> None:
    """Remove a parameter; `outer.inner` is a nested one, whose parent goes too if that empties it."""
    outer, _, inner = name.partition(".")
    if not inner:
        request.pop(name, None)
        return
    members = request.get(outer)
    if isinstance(members, dict) and inner in members:
        remaining = {key: value for key, value in members.items() if key != inner}
        if remaining:
            request[outer] = remaining
        else:
            del request[outer]


def _separate_tool_and_user(messages: list[Any], text: str) -> list[Any]:
    """Return messages with an assistant message wherever the user speaks right after a tool."""
    separated: list[Any] = []
    previous_role = None
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if (previous_role, role) == ("tool", "user"):
            separated.append({"role": "assistant", "content": text})
        separated.append(message)
        previous_role = role
    return separated


def _sign_first_call(message: Any, signature: str) -> Any:
    """Return a message whose first tool call is signed: clients drop Google's field, or never had it."""
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
