from __future__ import annotations

import pytest
from router.clients import request
from router.harness import FakeSwapper, Setup, config, router

from llmstack.config.model import Settings, StackConfig
from llmstack.config.network import is_loopback, require_router_key
from llmstack.errors import LlmstackError
from llmstack.router.auth import RequestAuth

KEYED = RequestAuth("127.0.0.1", (), "s3cret", "LLMSTACK_API_KEY")
UNICODE = RequestAuth("127.0.0.1", (), "schlüssel", "LLMSTACK_API_KEY")
BYTES = RequestAuth("127.0.0.1", (), b"k\xff".decode(errors="surrogateescape"), "LLMSTACK_API_KEY")


@pytest.mark.parametrize(
    ("auth", "headers", "is_accepted"),
    [
        (KEYED, {"authorization": "Bearer s3cret"}, True),
        (KEYED, {"authorization": "bearer  s3cret "}, True),
        (KEYED, {"x-api-key": "s3cret"}, True),
        (KEYED, {"authorization": "Bearer other", "x-api-key": "s3cret"}, True),
        (KEYED, {}, False),
        (KEYED, {"authorization": "Bearer"}, False),
        (KEYED, {"authorization": "Bearer s3cre"}, False),
        (KEYED, {"authorization": "Bearer s3cret2"}, False),
        (KEYED, {"authorization": "s3cret"}, False),
        (KEYED, {"authorization": "Basic s3cret"}, False),
        (KEYED, {"x-api-key": ""}, False),
        (KEYED, {"x-api-key": "S3CRET"}, False),
        (KEYED, {"x-api-key": "s\xe9cret"}, False),
        # headers are read as latin-1, clients send UTF-8
        (UNICODE, {"x-api-key": "schlüssel".encode().decode("latin-1")}, True),
        (UNICODE, {"x-api-key": "schl\xfcssel"}, False),
        (BYTES, {"x-api-key": "k\xff"}, True),
    ],
)
def test_only_the_configured_key_is_accepted(
    auth: RequestAuth, headers: dict[str, str], *, is_accepted: bool
) -> None:
    refusal = auth.check({"host": "localhost", **headers})
    assert (refusal is None) == is_accepted
    if refusal is not None:
        assert (refusal.status, refusal.code) == (401, "invalid_api_key")
        assert "$LLMSTACK_API_KEY" in refusal.message
        assert auth.api_key not in refusal.message


def test_beyond_loopback_only_the_key_is_checked() -> None:
    auth = RequestAuth("0.0.0.0", (), "s3cret", "K")  # noqa: S104 - nothing listens
    assert auth.check({"host": "any.example", "origin": "null", "x-api-key": "s3cret"}) is None
    assert auth.check({"host": "localhost"}) is not None


@pytest.mark.parametrize("key", [None, "", "  "])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])  # noqa: S104
def test_an_address_beyond_loopback_requires_a_key(host: str, key: str | None) -> None:
    env = {} if key is None else {"MY_KEY": key}
    stack = StackConfig(Settings(api_key_env="MY_KEY"), config().routing, {})
    with pytest.raises(LlmstackError) as raised:
        require_router_key(host, stack.settings, env)
    assert "$MY_KEY is not set" in raised.value.message
    assert raised.value.hint is not None
    assert "export MY_KEY=" in raised.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_requires_no_key(host: str) -> None:
    assert require_router_key(host, config().settings, {}) == ""
    assert require_router_key(host, config().settings, {"LLMSTACK_API_KEY": " k\n"}) == "k"


def test_is_loopback_recognises_ipv6() -> None:
    assert is_loopback("[::1]")
    assert not is_loopback("::ffff:10.0.0.1")


@pytest.mark.parametrize("path", ["/", "/health", "/models.ini", "/v1/models", "/v1/chat/completions", "/x"])
async def test_every_path_requires_the_key(path: str) -> None:
    async with router(FakeSwapper(), Setup(auth=KEYED)) as running:
        reply = await request(running, "GET", path)
        assert (reply.status, reply.error["type"]) == (401, "authentication_error")
        assert reply.headers["www-authenticate"] == "Bearer"
        for headers in ({"x-api-key": "s3cret", "host": "evil.example"}, {"origin": "null"}):
            assert (await request(running, "GET", path, headers=headers)).status == 403
        assert (await request(running, "GET", path, headers={"x-api-key": "s3cret"})).status < 500
