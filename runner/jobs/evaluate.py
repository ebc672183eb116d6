"""The job `evaluate`: one attack on the models of several seeds, with intervals over them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from runner import stats
from runner.core import store
from runner.core.errors import ConfigError, of_the_disk
from runner.core.identity import Config
from runner.core.store import Folder
from runner.jobs import attack, checks, parts
from runner.jobs.cells import attack_cell, evaluate_cell
from runner.jobs.once import do_once
from runner.jobs.report import write_report
from runner.report import claims
from runner.tracking import Tracker

log = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Attack every seed's model and summarise. Returns the content of `result.json`."""
    checks.check(config)
    cell = evaluate_cell(config)
    result = do_once(cell, config, lambda: _ready(config), lambda folder, tracker: _evaluate(config, folder, tracker))
    log.info("report: %s", cell.folder / "index.html")
    return result


def _ready(config: Config) -> None:
    for seed in config["seeds"]:
        attack.ready({**config, "seed": seed})


def _evaluate(config: Config, folder: Folder, tracker: Tracker) -> dict[str, Any]:
    results, failed = _attack_seeds(config)
    runs = [attack_cell({**config, "seed": seed}).folder for seed in results]
    rows = pd.concat([pd.read_parquet(run / "rows.parquet") for run in runs], ignore_index=True)
    summary, areas = stats.summarise(rows, list(parts.metrics(config))), stats.areas(rows, list(parts.metrics(config)))
    store.write_frame(folder.path / "summary.parquet", summary)
    store.write_frame(folder.path / "areas.parquet", areas)
    store.write_frame(folder.path / "critical.parquet", stats.critical(rows, _levels(config)))
    _track(summary, tracker)
    violations = _violations(config, rows)
    write_report(runs, Path(config["outputs"]), folder.path, folder.path.name, failed)
    return {
        "runs": [str(run.relative_to(config["outputs"])) for run in runs],
        **({} if violations is None else {"certificate_violations": violations}),
        **_flags(results),
        "failed_seeds": {str(seed): reason for seed, reason in _failed_seeds(config, results).items()},
        "failure_rate": 1 - len(results) / len(config["seeds"]),
        **_over_seeds("test_accuracy", [result["test_accuracy"] for result in results.values()]),
        **_over_seeds("seconds_per_epoch", [result["seconds_per_epoch"] for result in results.values()]),
    }


def _flags(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The flags that an attack suite raised, with the seeds on which it did; nothing for other attacks."""
    told = {seed: result["flags"] for seed, result in results.items() if "flags" in result}
    raised = {
        name: [seed for seed, flags in told.items() if flags[name]["tripped"]]
        for name in dict.fromkeys(name for flags in told.values() for name in flags)
    }
    return {"flags": {name: seeds for name, seeds in raised.items() if seeds}} if told else {}


def _violations(config: Config, rows: pd.DataFrame) -> dict[str, Any] | None:
    """Whether the attack beat the certificate beyond its confidence, said loudly if so; None without a certificate."""
    certificate = parts.certificate(config)
    if certificate is None:
        return None
    direction = parts.metrics(config)[certificate.bounds].direction
    claim = claims.Claim(config["certificate"]["name"], certificate.bounds, direction, certificate.confidence)
    found = claims.summary(rows, claim)
    if found is not None and found["beaten"]:
        log.error("%s", claims.alarm(found))
    return found


def _levels(config: Config) -> dict[str, stats.Level]:
    """The middle of the range of every metric that has one: where epsilon 50 is read off."""
    levels = {name: stats.halfway(metric.direction, metric.range) for name, metric in parts.metrics(config).items()}
    return {name: level for name, level in levels.items() if level is not None}


def _attack_seeds(config: Config) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """Results by seed, and the `result.json` of those that failed. Errors: the last failure when every seed failed."""
    results: dict[int, dict[str, Any]] = {}
    failed: list[dict[str, Any]] = []
    for seed in config["seeds"]:
        seeded = {**config, "seed": seed}
        try:
            results[seed] = attack.run(seeded)
        except ConfigError:
            raise
        except Exception as error:
            if of_the_disk(error):
                raise
            log.exception("seed %s failed", seed)
            failed.append(Folder(attack_cell(seeded).folder).result() or {"seed": seed, "error": str(error)})
            if len(failed) == len(config["seeds"]):
                raise
    return results, failed


def _failed_seeds(config: Config, results: dict[int, dict[str, Any]]) -> dict[int, str]:
    missing = [seed for seed in config["seeds"] if seed not in results]
    return {
        seed: str((Folder(attack_cell({**config, "seed": seed}).folder).result() or {}).get("error", ""))
        for seed in missing
    }


def _over_seeds(name: str, values: list[float]) -> dict[str, float | None]:
    interval = stats.seed_interval(values)
    known = {"": interval.mean, "_low": interval.low, "_high": interval.high}
    return {f"{name}{end}": None if math.isnan(value) else value for end, value in known.items()}


def _track(summary: pd.DataFrame, tracker: Tracker) -> None:
    for (epsilon, metric), part in summary.groupby(["epsilon", "metric"]):
        values = {f"metric/{metric}": float(part["mean"].iloc[0])}
        values |= {
            f"metric/{metric}_{side}": float(part[side].iloc[0]) for side in ("low", "high") if part[side].notna().all()
        }
        tracker.log(values, step_name="epsilon", step=float(str(epsilon)))
    tracker.table("summary", summary)
