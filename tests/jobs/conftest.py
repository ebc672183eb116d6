"""What the tests of attacks share: rows of a run, and a model that is trained once a module."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from running import attack_run, do

from runner.core.config import Config


@pytest.fixture(autouse=True)
def _quick(no_pictures: None) -> None:
    """Most of these tests make several attacks."""


def rows_of(config: Config) -> pd.DataFrame:
    return pd.read_parquet(attack_run(config).folder / "rows.parquet")


@pytest.fixture
def attacked(compose: Callable[..., Config]) -> Callable[..., tuple[Config, pd.DataFrame]]:
    """(*overrides) -> the config and the rows of a finished attack."""

    def run(*overrides: str, outputs: Path | None = None) -> tuple[Config, pd.DataFrame]:
        config = compose(*overrides)
        config["outputs"] = str(outputs or config["outputs"])
        do(config)
        return config, rows_of(config)

    return run
