from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.serving.json_edits import add_members, set_model, set_slot


def with_model(body: bytes, current: str | None, model: str, slot: int | None = None) -> bytes:
    return b"".join(set_model(body, current, model, slot))


@pytest.mark.parametrize(
    ("body", "current", "expected"),
    [
        (b'{"model":"auto"}', "auto", b'{"model":"new"}'),
        (b' {\t"a":1 , "model" :\n "auto" ,"b":[ ]} ', "auto", b' {\t"a":1 , "model" :\n "new" ,"b":[ ]} '),
        (b'{"model":""}', "", b'{"model":"new"}'),
        # absent
        (b"{}", None, b'{"model":"new"}'),
        (b"{ }", None, b'{"model":"new" }'),
        (b' { "a": 1}', None, b' {"model":"new", "a": 1}'),
        # null
        (b'{"a":1,"model": null }', None, b'{"a":1,"model": "new" }'),
        # nested members are not changed
        (b'{"x":{"model":"auto"},"model":"auto"}', "auto", b'{"x":{"model":"auto"},"model":"new"}'),
        (b'{"x":[{"model":"auto"}]}', None, b'{"model":"new","x":[{"model":"auto"}]}'),
        (b'{"x":{"model":5},"model":"auto"}', "auto", b'{"x":{"model":5},"model":"new"}'),
        # escaped keys mean the same
        (
            b'{"mod\\u0065l":"auto","x":{"model":"auto"}}',
            "auto",
            b'{"mod\\u0065l":"new","x":{"model":"auto"}}',
        ),
        (b'{"x\\"model":"auto","\\u006dodel":"auto"}', "auto", b'{"x\\"model":"auto","\\u006dodel":"new"}'),
        (b'{"x\\"model":"auto","model":"auto"}', "auto", b'{"x\\"model":"auto","model":"new"}'),
        # some parsers use the last of two, some the first: both are set
        (b'{"model":"a","model":"b"}', "b", b'{"model":"new","model":"new"}'),
        (b'{"model":5,"model":"b"}', "b", b'{"model":5,"model":"new"}'),
        (b'{"model":"a","model":null}', None, b'{"model":"new","model":"new"}'),
        # values with escapes
        (b'{"model":"\\u0061uto"}', "auto", b'{"model":"new"}'),
        (b'{"model":"a\\"b\\\\"}', 'a"b\\', b'{"model":"new"}'),
        # strings that look like members
        (
            b'{"t":"\\"model\\":\\"auto\\"","model":"auto"}',
            "auto",
            b'{"t":"\\"model\\":\\"auto\\"","model":"new"}',
        ),
        (b'{"t":["model"],"model":"auto"}', "auto", b'{"t":["model"],"model":"new"}'),
        # bytes that are no UTF-8, and numbers that Python does not convert
        (b'{"t":"\xff\\u0061","model":null}', None, b'{"t":"\xff\\u0061","model":"new"}'),
        (b'{"n":' + b"9" * 5000 + b',"model":null}', None, b'{"n":' + b"9" * 5000 + b',"model":"new"}'),
    ],
)
def test_only_the_model_changes(body: bytes, current: str | None, expected: bytes) -> None:
    assert with_model(body, current, "new") == expected


def test_the_new_name_is_escaped() -> None:
    assert with_model(b'{"model":"a"}', "a", 'b"\\é') == b'{"model":"b\\"\\\\\\u00e9"}'


def test_a_document_that_is_nested_too_deeply_is_an_error() -> None:
    with pytest.raises(RecursionError):
        with_model(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b',"model":null}', None, "new")


def _common_prefix(one: bytes, other: bytes) -> int:
    """Return the length of the common prefix."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


class _Model(msgspec.Struct):
    model: str | None = None


KEYS = st.sampled_from(["model", "messages", "mode", "Model", "x\\model", '"model"', ""]) | st.text(
    max_size=3
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5) | st.just('"model":"auto"'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    document=st.dictionaries(KEYS, VALUES, max_size=5),
    model=st.none() | st.sampled_from(["auto", "", "é"]) | st.text(max_size=3).filter(str.isprintable),
    present=st.booleans(),
    escape=st.booleans(),
    indent=st.sampled_from([None, 1]),
    new=st.sampled_from(["code-fast", 'q"uote']),
)
def test_the_edited_document_differs_only_in_the_model(
    document: dict[str, object],
    model: str | None,
    new: str,
    indent: int | None,
    *,
    present: bool,
    escape: bool,
) -> None:
    document.pop("model", None)
    if present:
        document["model"] = model
    text = json.dumps(document, indent=indent, ensure_ascii=escape)
    try:
        body = text.encode()
        current = msgspec.json.decode(body, type=_Model).model
    except (UnicodeEncodeError, msgspec.DecodeError):  # lone surrogates are refused earlier
        return
    edited = with_model(body, current, new)
    assert json.loads(edited) == {**document, "model": new}
    changed = len(edited) - len(body)
    if not present:
        start = edited.index(b'"model":' + json.dumps(new).encode())
        assert edited[:start] + edited[start + changed :] == body, "only an insertion"
    else:
        same_before = _common_prefix(body, edited)
        same_after = _common_prefix(body[::-1], edited[::-1])
        old = len(json.dumps(model, ensure_ascii=escape).encode())
        assert same_before + same_after >= len(body) - old, "everything but the value is unchanged"


@pytest.mark.parametrize("tail", [b',"model":"auto"}', b',"model":null}', b',"\\u006dodel":"auto"}', b"}"])
def test_a_megabyte_is_edited_quickly(tail: bytes) -> None:
    text = json.dumps('x = "model": "auto"\n' * 40_000).encode()
    body = b'{"messages":[{"role":"user","content":' + text + b"}]" + tail
    current = msgspec.json.decode(body, type=_Model).model
    started = time.process_time()
    edited = with_model(body, current, "code-fast")
    assert time.process_time() - started < 0.5
    assert text in edited


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b"{}", b'{"id_slot":3}'),
        (b' { "a" : 1 }', b' {"id_slot":3, "a" : 1 }'),
        (b'{"a":{"id_slot":9}}', b'{"id_slot":3,"a":{"id_slot":9}}'),
        (b'{"a":1,"id_slot": 7 ,"b":2}', b'{"a":1,"id_slot": 3 ,"b":2}'),
        (b'{"\\u0069d_slot":7}', b'{"\\u0069d_slot":3}'),
        (b'{"a":"\\u0064 \xff"}', b'{"id_slot":3,"a":"\\u0064 \xff"}'),
        (b'{"a":"\\"id_slot\\":7"}', b'{"id_slot":3,"a":"\\"id_slot\\":7"}'),
    ],
)
def test_only_the_slot_changes(body: bytes, after: bytes) -> None:
    assert set_slot(body, 3) == after


@pytest.mark.parametrize(
    ("body", "current", "after"),
    [
        (b'{"model":"auto"}', "auto", b'{"id_slot":3,"model":"new"}'),
        (b' { "a":1,"model" : "auto"}', "auto", b' {"id_slot":3, "a":1,"model" : "new"}'),
        (b'{"a":[],"model":"auto"}', "auto", b'{"id_slot":3,"a":[],"model":"new"}'),
        (b'{"a":[], "model":"new"}', "new", b'{"id_slot":3,"a":[], "model":"new"}'),
        (b"{}", None, b'{"id_slot":3,"model":"new"}'),
    ],
)
def test_model_and_slot_are_set_together(body: bytes, current: str | None, after: bytes) -> None:
    assert with_model(body, current, "new", slot=3) == after


ADDED = b'{"temperature":0.2,"top_p":0.9'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", ADDED + b"}"),
        (b' { "a" : 1 }', b" " + ADDED + b', "a" : 1 }'),
        (b'{"top_p": 1}', b'{"temperature":0.2,"top_p": 1}'),
        (b'{"top\\u005fp": 1}', b'{"temperature":0.2,"top\\u005fp": 1}'),
        (b'{"temperature": null, "top_p": 1}', b'{"temperature": null, "top_p": 1}'),
        (b'{"a": {"top_p": 1}, "s": "\xff"}', ADDED + b',"a": {"top_p": 1}, "s": "\xff"}'),
    ],
)
def test_only_missing_members_are_added(body: bytes, expected: bytes) -> None:
    assert add_members(body, {"temperature": 0.2, "top_p": 0.9}) == expected


def test_nothing_is_added_that_excludes_a_member_of_the_request() -> None:
    either = frozenset({"temperature", "top_p"})
    values = {"temperature": 0.2, "top_k": 20}
    assert add_members(b'{"top_p":1}', values, either) == b'{"top_k":20,"top_p":1}'
    assert add_members(b'{"a":1}', values, either) == b'{"temperature":0.2,"top_k":20,"a":1}'
