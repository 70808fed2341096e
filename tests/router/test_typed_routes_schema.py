"""The typed routes against their own schema: whatever is sent, the answer is one that the schema knows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from router.clients import well_behaved
from router.harness import Running, in_thread, stack
from schemathesis.checks import not_a_server_error

from llmstack.router.typed_routes import typed_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from llmstack.router.service import Service


def _nobody() -> Service:
    raise AssertionError("the schema is read without a router")


SCHEMA = schemathesis.openapi.from_dict(typed_routes(_nobody).app.openapi())


@contextlib.asynccontextmanager
async def _only_router() -> AsyncIterator[Running]:
    async with stack(well_behaved) as (running, _):
        yield running


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with in_thread(_only_router) as made:
        yield made


@SCHEMA.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_answer_is_a_server_error(case: schemathesis.Case[Any], running: Running) -> None:
    case.call_and_validate(base_url=running.url, checks=[not_a_server_error])
