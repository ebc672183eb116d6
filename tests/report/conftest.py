"""Fixtures of the report's tests: empty synthetic stores, and one filled as the quickstart sweep fills it."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_store import Store, analysis_of, fill_quickstart

from runner.report.analysis import Analysis


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store of runs with all five metrics."""
    return Store(tmp_path / "outputs")


@pytest.fixture
def small_store(tmp_path: Path) -> Store:
    """An empty store of runs with one metric."""
    return Store(tmp_path / "outputs", metrics=("topk_intersection",))


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four defenses, two attributions, two seeds: 16 runs. Shared: add nothing to it."""
    filled = Store(tmp_path_factory.mktemp("quickstart") / "outputs")
    fill_quickstart(filled)
    return filled


@pytest.fixture(scope="session")
def quickstart_analysis(quickstart: Store) -> Analysis:
    return analysis_of(quickstart)
