"""What a report is made from: rows, runs, failures, galleries and histories, as read by `runner.report.load`.

A *configuration* is everything that the runs of several seeds have in common; its runs share a `group_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from runner.core.types import Direction
from runner.report.naming import words
from runner.stats.claims import Claim

SETTING = ("dataset", "model", "norm")
"""Configurations of one setting share a table and a figure."""

PANEL = (*SETTING, "attribution", "attack")
"""Configurations of one panel differ in the defense alone and are compared with each other."""

IDENTITY = (*PANEL, "defense", "group_id")

CONVERGENCE = ("gain", "harm", "candidates", "gradients")
"""What the report takes of an attack's `convergence`, as columns `convergence_NAME`; nan for an attack that searches nothing."""


@dataclass(frozen=True)
class MetricInfo:
    """Name, direction, range and unit of a metric."""

    name: str
    direction: Direction
    low: float
    high: float
    unit: str

    @property
    def title(self) -> str:
        """The name in words, with an arrow towards the more robust values."""
        return f"{words(self.name)} {'↑' if self.direction == 'higher' else '↓'}"


@dataclass(frozen=True)
class Gallery:
    """Three examples of one run. images, perturbed: (3, C, H, W) in [0, 1]; maps: (3, H, W)."""

    group_id: str
    seed: int
    epsilon: float
    norm: str
    metric: str
    examples: list[dict[str, Any]]
    images: np.ndarray
    perturbed: np.ndarray
    clean_maps: np.ndarray
    perturbed_maps: np.ndarray


@dataclass(frozen=True)
class ReportData:
    """Everything that tables, figures and the page are made from."""

    rows: pd.DataFrame
    """One row per (example, epsilon, seed, configuration), as stored, with `group_id`."""
    runs: pd.DataFrame
    """One row per finished attack: the scalars of its result.json."""
    names: dict[str, str]
    """group_id -> name of its curve, for every configuration with a finished or failed run."""
    failures: list[dict[str, Any]]
    """One entry per run that failed or never finished."""
    metrics: dict[str, MetricInfo]
    galleries: dict[str, Gallery]
    """group_id -> the gallery of its lowest seed."""
    notes: list[str] = field(default_factory=list)
    """Sentences about files that are missing from the folders."""
    provenance: dict[str, list[str]] = field(default_factory=dict)
    """Flattened provenance keys with the distinct values over all runs."""
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row per (epoch, trained model), with dataset, model, defense, seed, train_id."""
    claims: dict[str, Claim] = field(default_factory=dict)
    """group_id -> what its certificate claims, for configurations that have one."""

    def runs_of(self, group_id: str) -> pd.DataFrame:
        """The finished runs of a configuration, one row a seed."""
        return self.runs[self.runs["group_id"] == group_id]

    def rows_of(self, group_id: str) -> pd.DataFrame:
        """The rows of a configuration."""
        return self.rows[self.rows["group_id"] == group_id]

    def labels(self, group_id: str) -> dict[str, str]:
        """The panel of a finished configuration, and the name of its curve as `series`."""
        first = self.runs_of(group_id).iloc[0]
        return {key: str(first[key]) for key in PANEL} | {"series": self.names[group_id]}


def select(frame: pd.DataFrame, values: Mapping[str, str]) -> pd.DataFrame:
    """The rows whose columns have these values."""
    for key, value in values.items():
        frame = frame[frame[key] == value]
    return frame
