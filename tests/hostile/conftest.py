from __future__ import annotations

from router.conftest import lasting_router

__all__ = ["lasting_router"]
