from __future__ import annotations

import os
import socket

import psutil
import pytest
from support.net import free_port, listener

from llmstack.errors import LlmstackError
from llmstack.process.ports import find_free_ports, is_free, port_owner
from llmstack.serving.pool.endpoint import Endpoint, Endpoints


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])  # noqa: S104 - this is what is tested
def test_a_port_is_free_until_somebody_listens(host: str) -> None:
    port = free_port()
    assert is_free(host, port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((host, port))
        server.listen()
        assert not is_free(host, port)
        assert port_owner(port) == f"{psutil.Process().name()} (pid {os.getpid()})"
    assert is_free(host, port)


def test_a_port_just_closed_is_free() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            connection, _ = server.accept()
            connection.close()  # this side closes first and is in TIME_WAIT
    assert is_free("127.0.0.1", port)


def test_find_free_ports_skips_ports_in_use_or_reserved() -> None:
    first = 20_000 + free_port() % 10_000
    first = find_free_ports("127.0.0.1", first, 12, ())
    assert find_free_ports("127.0.0.1", first, 3, ()) == first
    assert find_free_ports("127.0.0.1", first, 3, {first + 1}) == first + 2
    with listener(first + 4):
        assert find_free_ports("127.0.0.1", first, 3, {first + 1}) == first + 5
    assert find_free_ports("127.0.0.1", first, 0, ()) == first
    with pytest.raises(LlmstackError, match="no 10 free ports in a row from 65530 on") as raised:
        find_free_ports("127.0.0.1", 65_530, 10, ())
    assert raised.value.hint == "set another `start_port` in [DEFAULT] of models.ini"


def test_a_free_port_has_no_owner() -> None:
    assert port_owner(free_port()) is None


def test_model_servers_get_ports_of_their_own() -> None:
    with listener() as server:
        first = server.getsockname()[1]
        if first > 65_000:
            pytest.skip("too close to the last port")
        endpoints = Endpoints(first, frozenset({first + 1}))
        one, two = endpoints.acquire_port("one"), endpoints.acquire_port("two")
        assert first + 1 < one < two
        endpoints.release("one", Endpoint(port=one))
        assert endpoints.acquire_port("three") == one


def test_no_free_port_for_a_model_server_is_an_error() -> None:
    with pytest.raises(LlmstackError, match="no free port from 65535 to 65535") as raised:
        Endpoints(65_535, frozenset({65_535})).acquire_port("one")
    assert raised.value.hint == "set another `start_port` in [DEFAULT] of models.ini"
