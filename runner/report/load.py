"""Read folders of the store into one `ReportData`. Only files are read: no model, no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from runner.core.errors import StoreError
from runner.core.store import Folder
from runner.core.types import Direction
from runner.report.claims import Claim
from runner.report.naming import series_names

PANEL = ("dataset", "model", "norm", "attribution", "attack")
"""Cells that differ in the defense alone are compared with each other: they share a panel."""

SETTING = ("dataset", "model", "norm")
"""Panels that share a table and a figure."""

IDENTITY = (*PANEL, "defense", "group_id")


@dataclass(frozen=True)
class MetricInfo:
    """What a metric says about itself."""

    name: str
    direction: Direction
    low: float
    high: float
    unit: str

    @property
    def arrow(self) -> str:
        """Which way is more robust."""
        return "↑" if self.direction == "higher" else "↓"

    @property
    def title(self) -> str:
        """The name in words, with its direction."""
        return f"{self.name.replace('_', ' ')} {self.arrow}"


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
    """Everything that tables, plots and the page are made of."""

    rows: pd.DataFrame
    """One row per (example, epsilon, seed, cell), as stored, with `group_id`."""
    runs: pd.DataFrame
    """One row per finished attack: the scalars of its result.json."""
    names: dict[str, str]
    """group_id -> name of its curve, for every cell that finished or failed."""
    failures: list[dict[str, Any]]
    """One entry per run that failed or never finished."""
    metrics: dict[str, MetricInfo]
    galleries: dict[str, Gallery]
    """By group_id: the gallery of its lowest seed."""
    notes: list[str] = field(default_factory=list)
    """What is missing from the folders, in words."""
    provenance: dict[str, list[str]] = field(default_factory=dict)
    """Flattened provenance keys with the distinct values over all runs."""
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row per (epoch, trained model), with dataset, model, defense, seed."""
    claims: dict[str, Claim] = field(default_factory=dict)
    """By group_id: what the certificates of the runs that have one say."""


def load(folders: Sequence[Path], models_root: Path, failed: Sequence[Mapping[str, Any]] = ()) -> ReportData:
    """Read attack folders. A folder without an ok result.json becomes an entry of `failures`.

    Errors: `StoreError` when there is neither a finished nor a failed run, when an ok folder cannot be read, or when a newer
    version of the store wrote one.
    """
    results, failures = _read_results(folders, failed)
    if not results and not failures:
        raise StoreError(f"no attack folders among the {len(folders)} given: nothing to report")
    runs = pd.DataFrame([_scalars(folder, result) for folder, result in results])
    metrics = _metrics([result for _, result in results])
    rows = pd.concat([_read_rows(folder, result) for folder, result in results]) if results else pd.DataFrame()
    failures = [_with_group(failure, runs) for failure in failures]
    notes: list[str] = []
    return ReportData(
        rows=rows.reset_index(drop=True),
        runs=runs,
        names=_names(runs, failures),
        failures=failures,
        metrics=metrics,
        galleries=_read_galleries(results, notes),
        provenance=_provenance([result for _, result in results]),
        history=_read_history(runs, models_root, notes),
        notes=notes,
        claims={result["group_id"]: claim for _, result in results if (claim := Claim.read(result)) is not None},
    )


def _read_results(
    folders: Sequence[Path], failed: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[Path, dict[str, Any]]], list[dict[str, Any]]]:
    finished: list[tuple[Path, dict[str, Any]]] = []
    failures = [dict(entry) for entry in failed]
    known = {str(entry["run_id"]) for entry in failures if "run_id" in entry}
    for folder in sorted(set(folders)):
        result = Folder(folder).result() or {}
        if result.get("status") == "ok":
            result["group_id"] = str(result.get("group_id") or _fallback_group(result))
            finished.append((folder, result))
        elif str(result.get("run_id")) not in known:
            failures.append({"folder": folder.name, "error": "not finished: no result.json", **result})
    return finished, failures


def _with_group(failure: Mapping[str, Any], runs: pd.DataFrame) -> dict[str, Any]:
    """The failure with the cell it belongs to, where its keys name one; a failed training names none."""
    labels = (*PANEL, "defense")
    if "group_id" in failure or any(key not in failure for key in labels):
        return dict(failure)
    same = runs
    for key in labels if len(runs) else ():
        same = same[same[key] == failure[key]]
    groups = set(same["group_id"]) if len(runs) else set()
    return {**failure, "group_id": groups.pop() if len(groups) == 1 else _fallback_group(failure)}


def _names(runs: pd.DataFrame, failures: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    known = [failure for failure in failures if all(key in failure for key in IDENTITY)]
    cells = pd.concat([runs, pd.DataFrame(known, columns=list(IDENTITY))])[list(IDENTITY)]
    return series_names(cells, PANEL)


def _fallback_group(result: Mapping[str, Any]) -> str:
    return "/".join(str(result[key]) for key in (*PANEL, "defense"))


def _scalars(folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """The flat part of a result.json, with the fields that others rely on always there."""
    twin = result.get("twin") or {}
    flat = {key: value for key, value in result.items() if isinstance(value, str | int | float | bool)}
    optional = dict.fromkeys(("seconds_per_epoch", "seconds", "examples"), math.nan)
    twins = {"twin_beta": _number(twin.get("beta")), "twin_map_cosine": _number(twin.get("map_cosine"))}
    fixed = {"folder": folder.name, "kept_by": "", "stochastic": False}
    source = {f"source_{key}": value for key, value in (result.get("source") or {}).items()}
    told = {key: result[key] for key in ("suite", "flags") if result.get(key)}
    return {**optional, **fixed, **flat, **twins, **source, **told}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _metrics(results: Sequence[Mapping[str, Any]]) -> dict[str, MetricInfo]:
    infos: dict[str, MetricInfo] = {}
    for result in results:
        for name, meta in result["metrics"].items():
            low, high = meta.get("range") or (None, None)
            bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
            infos.setdefault(name, MetricInfo(name, meta["direction"], *bounds, meta.get("unit") or ""))
    return infos


def _read_rows(folder: Path, result: Mapping[str, Any]) -> pd.DataFrame:
    path = folder / "rows.parquet"
    if not path.exists():
        raise StoreError(f"{path}: missing, though result.json says ok")
    rows = pd.read_parquet(path)
    wanted = [
        *IDENTITY[:-1],
        "seed",
        "epsilon",
        "example_id",
        "perturbation_norm",
        "label_preserved",
        *result["metrics"],
    ]
    missing = [column for column in wanted if column not in rows.columns]
    if missing:
        raise StoreError(f"{path}: columns missing: {', '.join(missing)}")
    return rows.assign(group_id=result["group_id"])


def _read_galleries(results: Sequence[tuple[Path, Mapping[str, Any]]], notes: list[str]) -> dict[str, Gallery]:
    galleries: dict[str, Gallery] = {}
    missing = []
    for folder, result in sorted(results, key=lambda item: item[1]["seed"]):
        path = folder / "gallery.safetensors"
        if not path.exists():
            missing.append(folder.name)
        elif result["group_id"] not in galleries:
            galleries[result["group_id"]] = read_gallery(path, result)
    if missing:
        notes.append(f"No gallery was stored for {len(missing)} of {len(results)} runs: {', '.join(missing)}.")
    return galleries


def read_gallery(path: Path, result: Mapping[str, Any]) -> Gallery:
    """The gallery of a run with this group_id and seed. Errors: `StoreError` when the file is none."""
    names = ("images", "perturbed", "clean_maps", "perturbed_maps")
    try:
        with safe_open(path, framework="numpy") as handle:
            meta = json.loads(handle.metadata()["gallery"])
            arrays = {name: handle.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not a gallery ({error})") from error
    shared = {key: meta[key] for key in ("epsilon", "norm", "metric", "examples")}
    return Gallery(group_id=result["group_id"], seed=int(result["seed"]), **shared, **arrays)


def _read_history(runs: pd.DataFrame, models_root: Path, notes: list[str]) -> pd.DataFrame:
    frames, missing = [], 0
    unique = runs.drop_duplicates("train_id").to_dict("records") if "train_id" in runs.columns else []
    for run in unique:
        paths = sorted(models_root.glob(f"*-{run['train_id']}/history.parquet"))
        if not paths:
            missing += 1
            continue
        keys = {key: run[key] for key in ("dataset", "model", "defense", "seed", "train_id")}
        frames.append(pd.read_parquet(paths[0]).assign(**keys))
    if missing:
        notes.append(f"No training history was found for {missing} of {len(unique)} models.")
    return pd.concat(frames).reset_index(drop=True) if frames else pd.DataFrame()


def _provenance(results: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for key, value in _flatten(result.get("provenance") or {}):
            values.setdefault(key, {})[value] = None
    return {key: sorted(found) for key, found in sorted(values.items())}


def _flatten(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    items: list[tuple[str, str]] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            items += _flatten(value, f"{prefix}{key}.")
        elif value is not None:
            items.append((f"{prefix}{key}", str(value)))
    return items
