"""Deliberate differences between the servers: one place that names them, and scenarios that must use it."""

from __future__ import annotations

import pathlib
import tomllib
from typing import Any

PATH = pathlib.Path(__file__).resolve().parent.parent / "deviations.toml"


def listed() -> dict[str, dict[str, str]]:
    """All deviations by id."""
    with open(PATH, "rb") as file:
        rows = tomllib.load(file)["deviation"]
    assert len({row["id"] for row in rows}) == len(rows), "a deviation is listed twice"
    return {row["id"]: row for row in rows}


def differs(server: Any, deviation_id: str, *, peer: Any, ours: Any) -> Any:
    """The value expected of `server`, where the two servers differ on purpose."""
    assert deviation_id in listed(), f"`{deviation_id}` is not in deviations.toml"
    assert peer != ours, f"`{deviation_id}` is no deviation: both are expected to answer {peer!r}"
    return ours if server.is_ours else peer
