"""The list of deliberate differences is neither longer nor shorter than what the tests use."""

from __future__ import annotations

import pathlib
import re

from mpkit.deviation import listed

TESTS = pathlib.Path(__file__).resolve().parents[2]


def test_every_deviation_is_used_by_a_test():
    text = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    used = set(re.findall(r'differs\(\s*server,\s*"([a-z0-9-]+)"', text))
    assert used == listed().keys()
