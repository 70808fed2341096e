from __future__ import annotations

import os
import socket

import psutil
import pytest
from support.net import free_port, listener

from llmstack.errors import LlmstackError
from llmstack.process.ports import free_run, is_free, owner
from llmstack.serving.pool.model_server import Ports


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])  # noqa: S104 - what is tested
def test_a_port_is_free_until_somebody_listens(host: str) -> None:
    port = free_port()
    assert is_free(host, port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((host, port))
        server.listen()
        assert not is_free(host, port)
        assert owner(port) == f"{psutil.Process().name()} (pid {os.getpid()})"
    assert is_free(host, port)


def test_a_port_just_closed_is_free() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            connection, _ = server.accept()
            connection.close()  # this side closes first and is in TIME_WAIT
    assert is_free("127.0.0.1", port)


def test_a_run_of_free_ports_steps_over_what_is_taken_or_reserved() -> None:
    first = 20_000 + free_port() % 10_000
    first = free_run("127.0.0.1", first, 12, ())
    assert free_run("127.0.0.1", first, 3, ()) == first
    assert free_run("127.0.0.1", first, 3, {first + 1}) == first + 2
    with listener(first + 4):
        assert free_run("127.0.0.1", first, 3, {first + 1}) == first + 5
    assert free_run("127.0.0.1", first, 0, ()) == first
    with pytest.raises(LlmstackError, match="no 10 free ports in a row from 65530 on") as none:
        free_run("127.0.0.1", 65_530, 10, ())
    assert none.value.hint == "set another `start_port` in [DEFAULT] of models.ini"


def test_nobody_owns_a_free_port() -> None:
    assert owner(free_port()) is None


def test_model_servers_get_ports_of_their_own() -> None:
    with listener() as taken:
        first = taken.getsockname()[1]
        if first > 65_000:
            pytest.skip("too near to the last port")
        ports = Ports(first, frozenset({first + 1}))
        one, two = ports.take("one"), ports.take("two")
        assert first + 1 < one < two
        ports.give_back("one")
        assert ports.take("three") == one


def test_no_port_left() -> None:
    with pytest.raises(LlmstackError, match="no free port from 65535 to 65535") as refused:
        Ports(65_535, frozenset({65_535})).take("one")
    assert refused.value.hint == "set another `start_port` in [DEFAULT] of models.ini"
