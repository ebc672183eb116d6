"""Read folders of the store into `ReportData`. Only files are read: no model, no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors import SafetensorError, safe_open

from runner.core.errors import StoreError
from runner.report.data import CONVERGENCE, IDENTITY, PANEL, Gallery, MetricInfo, ReportData, select
from runner.report.naming import series_names
from runner.stats.claims import Claim
from runner.store.torn import read_result, read_rows, read_table, torn

Result = dict[str, Any]
LABELS = (*PANEL, "defense")
REPEATED = (*LABELS, "train_id", "run_id")
"""Columns with one text for all rows of a run."""
_FIXED = ("seed", "epsilon", "example_id", "perturbation_norm", "label_preserved")


def load(folders: Sequence[Path], models_root: Path, failed: Sequence[Mapping[str, Any]] = ()) -> ReportData:
    """Read attack folders. A folder without an ok result.json becomes an entry of `failures`.

    `failed` are result.jsons of failed runs that have no folder among those given. Errors: `StoreError` when there is neither
    a finished nor a failed run, when an ok folder cannot be read, or when a newer version of the store wrote one.
    """
    finished, failures = _read_results(folders, failed)
    if not finished and not failures:
        raise StoreError(f"no attack folders among the {len(folders)} given: nothing to report")
    results = list(finished.values())
    runs = pd.DataFrame([_scalars(folder, result) for folder, result in finished.items()])
    failures = [_with_group(failure, runs) for failure in failures]
    notes: list[str] = []
    return ReportData(
        rows=_read_rows(finished) if finished else pd.DataFrame(),
        runs=runs,
        names=_names(runs, failures),
        failures=failures,
        metrics=_metrics(results),
        galleries=_read_galleries(finished, notes),
        provenance=_provenance(results),
        history=_read_history(runs, models_root, notes),
        notes=notes,
        claims={result["group_id"]: claim for result in results if (claim := Claim.read(result)) is not None},
    )


def _read_results(
    folders: Sequence[Path], failed: Sequence[Mapping[str, Any]]
) -> tuple[dict[Path, Result], list[Result]]:
    """The results of finished runs by folder, and those of failed and unfinished ones."""
    finished: dict[Path, Result] = {}
    failures = [dict(entry) for entry in failed]
    known = {str(entry["run_id"]) for entry in failures if "run_id" in entry}
    for folder in sorted(set(folders)):
        result = read_result(folder) or {}
        if result.get("status") == "ok":
            finished[folder] = {**result, "group_id": str(result.get("group_id") or _fallback_group(result))}
        elif str(result.get("run_id")) not in known:
            failures.append({"folder": folder.name, "error": "not finished: no result.json", **result})
    return finished, failures


def _with_group(failure: Mapping[str, Any], runs: pd.DataFrame) -> Result:
    """The failure with the id of its configuration, if its keys name one; those of a failed training do not."""
    if "group_id" in failure or any(key not in failure for key in LABELS):
        return dict(failure)
    same = select(runs, {key: failure[key] for key in LABELS}) if len(runs) else runs
    groups = set(same["group_id"]) if len(same) else set()
    return {**failure, "group_id": groups.pop() if len(groups) == 1 else _fallback_group(failure)}


def _fallback_group(result: Mapping[str, Any]) -> str:
    return "/".join(str(result[key]) for key in LABELS)


def _names(runs: pd.DataFrame, failures: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    known = [failure for failure in failures if all(key in failure for key in IDENTITY)]
    columns = [*IDENTITY, "weights"]
    configurations = pd.concat([runs, pd.DataFrame(known, columns=columns)]).reindex(columns=columns)
    return series_names(configurations, PANEL)


def _scalars(folder: Path, result: Mapping[str, Any]) -> Result:
    """The flat part of a result.json; fields that the report relies on are always there."""
    flat = {key: value for key, value in result.items() if isinstance(value, str | int | float | bool)}
    missing = dict.fromkeys(("seconds_per_epoch", "seconds", "examples", "twin_beta", "twin_map_cosine"), math.nan)
    defaults = {**missing, "folder": folder.name, "kept_by": "", "stochastic": False}
    twin = {f"twin_{key}": value for key, value in (result.get("twin") or {}).items() if value is not None}
    source = {
        f"source_{key}": math.nan if value is None else value for key, value in (result.get("source") or {}).items()
    }
    near = {f"convergence_{key}": math.nan for key in CONVERGENCE}
    near |= {f"convergence_{key}": result["convergence"][key] for key in CONVERGENCE if result.get("convergence")}
    nested = {key: result[key] for key in ("suite", "flags") if result.get(key)}
    return {**defaults, **flat, **twin, **source, **near, **nested, "measured": list(result["metrics"])}


def _metrics(results: Sequence[Mapping[str, Any]]) -> dict[str, MetricInfo]:
    infos: dict[str, MetricInfo] = {}
    for name, meta in (item for result in results for item in result["metrics"].items()):
        low, high = meta.get("range") or (None, None)
        bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
        infos.setdefault(name, MetricInfo(name, meta["direction"], *bounds, meta.get("unit") or ""))
    return infos


def _read_rows(finished: Mapping[Path, Result]) -> pd.DataFrame:
    """The rows of all runs. Their labels are categories in the order of the alphabet, so that grouping by them is fast."""
    tables = []
    for folder, result in finished.items():
        table = read_table(folder / "rows.parquet", (*LABELS, *_FIXED, *result["metrics"]), REPEATED)
        group_id = pa.DictionaryArray.from_arrays(np.zeros(len(table), np.int32), [result["group_id"]])
        stored = [name for name in table.column_names if name != "group_id"]
        tables.append(table.select(stored).append_column("group_id", group_id))
    rows: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas(ignore_metadata=True)
    labels = [name for name in (*REPEATED, "group_id") if name in rows]
    return rows.assign(
        **{name: rows[name].cat.reorder_categories(sorted(rows[name].cat.categories)) for name in labels}
    )


def _read_galleries(finished: Mapping[Path, Result], notes: list[str]) -> dict[str, Gallery]:
    galleries: dict[str, Gallery] = {}
    missing = []
    for folder, result in sorted(finished.items(), key=lambda item: item[1]["seed"]):
        path = folder / "gallery.safetensors"
        if not path.exists():
            missing.append(folder.name)
        elif result["group_id"] not in galleries:
            galleries[result["group_id"]] = read_gallery(path, result)
    if missing:
        notes.append(f"No gallery was stored for {len(missing)} of {len(finished)} runs: {', '.join(missing)}.")
    return galleries


def read_gallery(path: Path, result: Mapping[str, Any]) -> Gallery:
    """The gallery of the run with the group_id and seed of `result`. Errors: `StoreError` when the file is no gallery."""
    names = ("images", "perturbed", "clean_maps", "perturbed_maps")
    try:
        with safe_open(path, framework="numpy") as handle:
            meta = json.loads(handle.metadata()["gallery"])
            arrays = {name: handle.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, TypeError) as error:
        raise torn(path, f"not a gallery: {error}") from error
    shared = {key: meta[key] for key in ("epsilon", "norm", "metric", "examples")}
    return Gallery(group_id=result["group_id"], seed=int(result["seed"]), **shared, **arrays)


def _read_history(runs: pd.DataFrame, models_root: Path, notes: list[str]) -> pd.DataFrame:
    frames, missing = [], 0
    models = runs.drop_duplicates("train_id").to_dict("records") if "train_id" in runs.columns else []
    for run in models:
        path = next(iter(sorted(models_root.glob(f"*-{run['train_id']}/history.parquet"))), None)
        if path is None:
            missing += 1
            continue
        keys = {key: run[key] for key in ("dataset", "model", "defense", "seed", "train_id")}
        history = read_rows(path)
        if len(history) and not {"epoch", "loss", "test_accuracy"} <= set(history):
            raise torn(path, "it is no history of a training")
        frames.append(history.assign(**keys))
    if missing:
        notes.append(f"No training history was found for {missing} of {len(models)} models.")
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _provenance(results: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    values: dict[str, set[str]] = {}
    for result in results:
        for key, value in _flatten(result.get("provenance") or {}):
            values.setdefault(key, set()).add(value)
    return {key: sorted(found) for key, found in sorted(values.items())}


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", str(value)
