"""Reports on runs of the store, of any job."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.core.command_line import command
from runner.core.errors import ConfigError
from runner.core.hashing import folder_name
from runner.store.folder import inside
from runner.store.torn import read_result

log = logging.getLogger(__name__)


def report_on(folders: Iterable[Path], outputs: Path, name: str, failed: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Report on attack and evaluation folders, in `outputs/reports/NAME`. Returns the page's path.

    `failed` describes runs that failed before they had a folder. Errors: `ConfigError` when there is nothing to report.
    """
    from runner.report.build import build_report

    attacks, failures = _attacks(folders, outputs)
    failures += [dict(result) for result in failed if result.get("job") != "evaluate"]
    if not attacks and not failures:
        raise ConfigError(f"report.sweep={name}: none of its runs is finished")
    out = outputs / "reports" / folder_name([name])
    page = build_report(attacks, outputs / "models", out, name, command(), failures)
    log.info("report: %s", page)
    return page


def _attacks(folders: Iterable[Path], outputs: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """The finished attacks among these folders (or used by evaluations among them), and the results of failed runs.

    Errors: `StoreError` for a result that cannot be read.
    """
    attacks: dict[Path, None] = {}
    failed: list[dict[str, Any]] = []
    for folder in folders:
        result = read_result(folder)
        if result is None or result.get("job") == "train":
            continue
        if result.get("status") != "ok":
            failed.append(result)
        elif result["job"] == "evaluate":
            attacks |= dict.fromkeys(inside(outputs, run) for run in result["runs"])
        else:
            attacks[folder] = None
    return list(attacks), failed
