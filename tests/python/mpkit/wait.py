"""The one way a test waits for what nothing announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

WAIT_S = 30.0


def becomes(condition: Callable[[], Any], limit_s: float) -> Any:
    """The first true value of `condition`, or its last one if there is none in time."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def until(condition: Callable[[], Any], what: str | Callable[[], str] = "what is waited for",
          limit_s: float = WAIT_S) -> Any:
    """The first true value of `condition`; fails the test if there is none in time, and says `what` never came."""
    if value := becomes(condition, limit_s):
        return value
    pytest.fail(f"never seen: {what if isinstance(what, str) else what()}")
