"""Fixtures of the report's tests: an empty synthetic store, and one filled as the quickstart sweep fills it."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_store import Store, fill_quickstart


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four defenses, two attributions, two seeds: 16 cells. Shared: add nothing to it."""
    filled = Store(tmp_path_factory.mktemp("quickstart") / "outputs")
    fill_quickstart(filled)
    return filled
