"""The job `report`: tables, plots and `index.html` from the finished runs of a sweep, or from any runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.core.errors import ConfigError, StoreError, require
from runner.report.stored_runs import report_on
from runner.runs.run import Run
from runner.store.files import read_json
from runner.store.folder import inside
from runner.store.version import VERSION_KEY, refuse_newer


def run(run: Run) -> dict[str, Any]:
    """Write the report of `report.sweep` or `report.runs` to `outputs/reports/NAME`. Returns its path as `page`."""
    sweep, runs = run.config["report"]["sweep"], run.config["report"]["runs"]
    if sweep is None and runs is None:
        raise ConfigError("report.sweep=null: must name a sweep (or give report.runs=[FOLDER,...])")
    folders = _of_sweep(run.outputs, str(sweep)) if sweep is not None else _of_patterns(run.outputs, runs)
    (name,) = run.job.labels(run.config)
    page = report_on(folders, run.outputs, name)
    return {"status": "ok", "page": str(page)}


def _of_sweep(outputs: Path, sweep: str) -> list[Path]:
    """The folders of a sweep's runs."""
    known = {path.parent.name: path for path in outputs.glob("sweeps/*/cells.json")}
    if not known:
        raise ConfigError(f"report.sweep={sweep}: must be a sweep that was run, and {outputs} holds none")
    if sweep not in known:
        raise ConfigError.choice("report.sweep", sweep, known)
    record = read_json(known[sweep]) or {}
    refuse_newer(known[sweep], record.get(VERSION_KEY))
    try:
        return [inside(outputs, str(cell["folder"])) for cell in record["cells"]]
    except (KeyError, TypeError):
        raise StoreError(
            f"{known[sweep]}: cannot be read; the command of the sweep {sweep}, repeated, writes it again"
        ) from None


def _of_patterns(outputs: Path, patterns: str | list[str]) -> list[Path]:
    named = [patterns] if isinstance(patterns, str) else patterns
    listed = isinstance(named, list) and all(isinstance(pattern, str) for pattern in named)
    require(listed, "report.runs", patterns, "a folder, or a list of folders (globs allowed)")
    found = [path for pattern in named for path in sorted(_matches(outputs, str(pattern))) if path.is_dir()]
    if not found:
        raise ConfigError(f"report.runs={patterns}: no such folder under {outputs}")
    return found


def _matches(outputs: Path, pattern: str) -> Iterable[Path]:
    path = Path(pattern)
    if path.is_absolute():
        return path.parent.glob(path.name)
    return [*outputs.glob(pattern), *outputs.glob(f"attacks/{pattern}")] or Path().glob(pattern)
