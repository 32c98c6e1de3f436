"""What tests of every room share: the folder of real data, where it stands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

KIT = Path(os.environ.get("GRAFT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data_kit() -> Callable[[str], Path]:
    """A function from a name in the data kit to its path; it skips the test where that part is absent."""

    def find(name: str) -> Path:
        path = KIT / name
        if not path.exists():
            pytest.skip(f"needs {name!r} of the data kit: set GRAFT_DATA to the folder that holds it")
        return path

    return find
