"""The job `report`: tables, plots and `index.html` from the finished runs of a sweep, or from any runs."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.core.errors import ConfigError
from runner.core.identity import Config, folder_name
from runner.core.store import VERSION_KEY, Folder, inside, refuse_newer
from runner.jobs import checks
from runner.report import build_report

log = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Write the report of `report.sweep` or `report.runs` to `outputs/reports/NAME`. Returns where it is."""
    checks.check_names(config)
    outputs, settings = Path(config["outputs"]), config["report"]
    folders = _folders(outputs, settings)
    page = report_on(folders, outputs, str(settings["name"] or settings["sweep"] or "runs"))
    return {"status": "ok", "page": str(page)}


def report_on(folders: Iterable[Path], outputs: Path, name: str, failed: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Report on attack and evaluation folders, in `outputs/reports/NAME`.

    `failed` describes runs that failed before they had a folder. Errors: `ConfigError` when there is nothing to tell.
    """
    attacks, told = _attacks(folders, outputs)
    told += [dict(result) for result in failed if result.get("job") != "evaluate"]
    if not attacks and not told:
        raise ConfigError(f"report.sweep={name}: none of its runs is finished")
    page = write_report(attacks, outputs, outputs / "reports" / folder_name([name]), name, told)
    log.info("report: %s", page)
    return page


def write_report(
    attacks: Sequence[Path],
    outputs: Path,
    folder: Path,
    title: str,
    failed: Sequence[Mapping[str, Any]],
) -> Path:
    """Tables, plots and page of attack folders, written to `folder`."""
    return build_report(attacks, outputs / "models", folder, title, command(), failed)


def command() -> str:
    """The command line of this process, as a user would type it."""
    return shlex.join(["python", "run.py", *sys.argv[1:]])


def sweep_file(outputs: Path, name: str) -> Path:
    """Where a sweep keeps the list of its cells."""
    return outputs / "sweeps" / name / "cells.json"


def _folders(outputs: Path, settings: Mapping[str, Any]) -> list[Path]:
    if settings["sweep"] is not None:
        return _stated(outputs, str(settings["sweep"]))
    if settings["runs"] is not None:
        patterns = [settings["runs"]] if isinstance(settings["runs"], str) else list(settings["runs"])
        found = [path for pattern in patterns for path in sorted(_matches(outputs, str(pattern))) if path.is_dir()]
        if not found:
            raise ConfigError(f"report.runs={settings['runs']}: no such folder under {outputs}")
        return found
    raise ConfigError("report.sweep=null: must name a sweep (or give report.runs=[FOLDER,...])")


def _stated(outputs: Path, sweep: str) -> list[Path]:
    """The folders of a sweep's cells."""
    known = {path.parent.name: path for path in outputs.glob("sweeps/*/cells.json")}
    if sweep not in known:
        raise ConfigError.choice("report.sweep", sweep, known)
    record = json.loads(known[sweep].read_text(encoding="utf-8"))
    refuse_newer(known[sweep], record.get(VERSION_KEY))
    return [inside(outputs, cell["folder"]) for cell in record["cells"]]


def _matches(outputs: Path, pattern: str) -> Iterable[Path]:
    path = Path(pattern)
    if path.is_absolute():
        return path.parent.glob(path.name)
    return [*outputs.glob(pattern), *outputs.glob(f"attacks/{pattern}")] or Path().glob(pattern)


def _attacks(folders: Iterable[Path], outputs: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """The finished attack folders among (or inside evaluations among) these, and the results of the failed ones."""
    attacks: dict[Path, None] = {}
    failed: list[dict[str, Any]] = []
    for folder in folders:
        result = Folder(folder).result()
        if result is None or result.get("job") == "train":
            continue
        if result["status"] != "ok":
            failed.append(result)
        elif result["job"] == "evaluate":
            attacks |= dict.fromkeys(inside(outputs, run) for run in result["runs"])
        else:
            attacks[folder] = None
    return list(attacks), failed
