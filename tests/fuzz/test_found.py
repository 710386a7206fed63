"""What a hunt once found, tried again with each run, also where hypothesis is not.

found/<what it was>.json    {"law": the function in tests/laws.py, its arguments by name}
"""

import json
from pathlib import Path

import laws
import pytest

CASES = sorted(Path(__file__).parent.glob("found/*.json"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_what_was_found_once_does_not_come_back(file):
    case = json.loads(file.read_bytes())
    getattr(laws, case.pop("law"))(**case)
