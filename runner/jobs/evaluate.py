"""The job `evaluate`: one attack on the models of several seeds, with intervals over the seeds."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from runner import stats
from runner.core.command_line import command
from runner.core.errors import ConfigError, StoreError, is_disk_error
from runner.core.flags import raised
from runner.jobs import attack
from runner.report.build import build_report
from runner.runs.run import Run
from runner.runs.run_job import run_job
from runner.runs.run_once import run_once
from runner.stats import claims
from runner.store import files
from runner.store.folder import Folder
from runner.store.torn import read_rows
from runner.tracking import Tracker

log = logging.getLogger(__name__)


def run(run: Run) -> dict[str, Any]:
    """Attack the model of every seed and summarise. Returns the content of `result.json`."""
    return run_once(run, lambda: _ready(run), lambda folder, tracker: _evaluate(run, folder, tracker))


def _ready(run: Run) -> None:
    for attacked in run.inputs:
        attack.ready(attacked)


def _evaluate(run: Run, folder: Folder, tracker: Tracker) -> dict[str, Any]:
    results, failed = _attack_seeds(run.inputs)
    attacks = [attacked.folder for attacked in run.inputs if attacked.config["seed"] in results]
    rows = pd.concat([read_rows(path / "rows.parquet", list(run.parts.metrics)) for path in attacks], ignore_index=True)
    summary, areas = stats.summarise(rows, list(run.parts.metrics)), stats.areas(rows, list(run.parts.metrics))
    files.write_frame(folder.path / "summary.parquet", summary)
    files.write_frame(folder.path / "areas.parquet", areas)
    files.write_frame(folder.path / "critical.parquet", stats.critical(rows, _levels(run)))
    _track(summary, tracker)
    violations = _violations(run, rows)
    models, failures = run.outputs / "models", list(failed.values())
    build_report(attacks, models, folder.path, folder.path.name, command(), failures)
    return {
        "runs": [str(path.relative_to(run.outputs)) for path in attacks],
        **({} if violations is None else {"certificate_violations": violations}),
        **_flags(results),
        "failed_seeds": {str(seed): str(failure.get("error", "")) for seed, failure in failed.items()},
        "failure_rate": len(failed) / len(run.inputs),
        **_over_seeds("test_accuracy", [result["test_accuracy"] for result in results.values()]),
        **_over_seeds("seconds_per_epoch", [result["seconds_per_epoch"] for result in results.values()]),
    }


def _attack_seeds(attacks: Sequence[Run]) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """The results by seed: of the successful runs, and of the failed ones. Errors: the last failure if every seed failed."""
    results: dict[int, dict[str, Any]] = {}
    failed: dict[int, dict[str, Any]] = {}
    for attacked in attacks:
        seed = int(attacked.config["seed"])
        try:
            results[seed] = run_job(attacked)
        except (ConfigError, StoreError):
            raise
        except Exception as error:
            if is_disk_error(error):
                raise
            log.exception("seed %s failed", seed)
            failed[seed] = Folder(attacked.folder).result() or {"seed": seed, "error": str(error)}
            if len(failed) == len(attacks):
                raise
    return results, failed


def _flags(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The flags that the runs raised, as the first of them states them, each with its seeds."""
    found: dict[str, dict[str, Any]] = {}
    for seed, result in results.items():
        for name in raised(result.get("flags", {})):
            found.setdefault(name, {**result["flags"][name], "seeds": []})["seeds"].append(seed)
    return {"flags": found}


def _violations(run: Run, rows: pd.DataFrame) -> dict[str, Any] | None:
    """Whether the attack beat the certificate more often than its confidence allows (then logged); None without one."""
    certificate = run.parts.certificate
    if certificate is None:
        return None
    direction = run.parts.metrics[certificate.bounds].direction
    claim = claims.Claim(run.config["certificate"]["name"], certificate.bounds, direction, certificate.confidence)
    found = claims.summary(rows, claim)
    if found is not None and found["beaten"]:
        log.error("%s", claims.alarm(found))
    return found


def _levels(run: Run) -> dict[str, stats.Level]:
    """The middle of the range of every bounded metric: the level of its epsilon 50."""
    levels = {name: stats.halfway(metric.direction, metric.range) for name, metric in run.parts.metrics.items()}
    return {name: level for name, level in levels.items() if level is not None}


def _over_seeds(name: str, values: list[float]) -> dict[str, float | None]:
    interval = stats.seed_interval(values)
    known = {"": interval.mean, "_low": interval.low, "_high": interval.high}
    return {f"{name}{end}": None if math.isnan(value) else value for end, value in known.items()}


def _track(summary: pd.DataFrame, tracker: Tracker) -> None:
    for epsilon, part in summary.groupby("epsilon"):
        values: dict[str, float] = {}
        for row in part.to_dict("records"):
            values[f"metric/{row['metric']}"] = float(row["mean"])
            values |= {
                f"metric/{row['metric']}_{side}": float(row[side]) for side in ("low", "high") if pd.notna(row[side])
            }
            values[f"undefined/{row['metric']}"] = float(row["undefined"])
        tracker.log(values, step_name="epsilon", step=float(str(epsilon)))
    tracker.table("summary", summary)
