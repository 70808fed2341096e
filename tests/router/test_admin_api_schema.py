"""The admin API against its own schema: every response matches it, whatever is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis
from schemathesis.checks import not_a_server_error
from support.examples import sample

from llmstack.router.admin.admin_api import admin_api

if TYPE_CHECKING:
    from router.harness import RunningRouter

    from llmstack.router.service import Service


def _no_service() -> Service:
    raise AssertionError("the schema is read without a router")


SCHEMA = schemathesis.openapi.from_dict(admin_api(_no_service).app.openapi())


@SCHEMA.parametrize()
@sample(15)
def test_every_response_matches_the_schema_and_is_no_server_error(
    case: schemathesis.Case[Any], lasting_router: RunningRouter
) -> None:
    case.call_and_validate(base_url=lasting_router.url, checks=[not_a_server_error])
