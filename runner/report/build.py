"""`build_report`: tables, plots and one page from folders of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.report.analysis import Analysis
from runner.report.load import load
from runner.report.page import render
from runner.report.tables.files import table_files
from runner.report.tables.summary import summary_tables
from runner.store.files import write_text


def build_report(
    folders: Sequence[Path],
    models_root: Path,
    out: Path,
    title: str,
    command: str,
    failed: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write `tables/`, `plots/` and last `index.html` below `out`, each file atomically; returns the page's path.

    `folders` are attack folders, finished or not; `models_root` holds the training histories; `command` is the command line
    shown on the page; `failed` are result.jsons of failed runs that have no folder among those given.
    Errors: `StoreError` when there is nothing to report or a finished folder cannot be read.
    """
    analysis = Analysis(load(folders, models_root, failed))
    made = _write_results(analysis, out, title) if len(analysis.data.runs) else {}
    write_text(out / "index.html", render(analysis, title, command, **made))
    return out / "index.html"


def _write_results(analysis: Analysis, out: Path, title: str) -> dict[str, Any]:
    """Tables and figures, as arguments of `render`."""
    from runner.report.figures.files import write_figures  # late: imports matplotlib
    from runner.report.figures.page_galleries import page_galleries

    summary = summary_tables(analysis)
    texts = table_files(analysis, summary, title)
    for name, text in texts.items():
        write_text(out / "tables" / name, text)
    return {
        "tables": summary,
        "table_files": [f"tables/{name}" for name in texts],
        "pictures": write_figures(analysis, out),
        "galleries": page_galleries(analysis),
    }
