"""`build_report`: from folders of the store to tables, plots and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from runner.core.store import replacing, write_text
from runner.report.analysis import Analysis
from runner.report.bands import alarms, band_table, bands
from runner.report.curves import curve_figures
from runner.report.figures import png, svg
from runner.report.gallery import gallery_figure
from runner.report.load import ReportData, load
from runner.report.matrix import matrix_figures
from runner.report.naming import slug
from runner.report.page import Page, Picture, conditions, describe, findings, render, seed_note
from runner.report.ranking import ranking_figures
from runner.report.scatter import scatter_figures
from runner.report.strength import strength_figures
from runner.report.styles import RC
from runner.report.suites import doubts, suite_table, suites
from runner.report.tables import csv_frames, summary_tables
from runner.report.text_tables import latex, markdown
from runner.report.training import training_figures
from runner.report.transfer import transfer_table, transfers


def build_report(
    folders: Sequence[Path],
    models_root: Path,
    out: Path,
    title: str,
    command: str,
    failed: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write `tables/`, `plots/` and last `index.html` below `out`, each file atomically; returns the page's path.

    `folders` are attack folders, finished or not; `models_root` holds the training histories; `command` is shown as
    what made the page; `failed` are result.jsons of failed runs that have no folder among those given.
    Errors: `StoreError` when there is nothing to report or a finished folder cannot be read.
    """
    return write_report(load(folders, models_root, failed), out, title, command)


def write_report(data: ReportData, out: Path, title: str, command: str) -> Path:
    """As `build_report`, from data that was read before."""
    analysis = Analysis(data)
    finished = len(data.runs) > 0
    tables = summary_tables(analysis) if finished else []
    files = {"tables": _write_tables(analysis, out, title) if finished else [], "plots": []}
    with mpl.rc_context(RC):
        groups = [curve_figures, _cost_figures, training_figures] if finished else []
        curves, scatters, training = [_write_figures(group(analysis), out, files["plots"]) for group in groups] or [
            []
        ] * 3
        galleries = _write_galleries(analysis, out, files["plots"])
        moved = transfers(analysis) if finished else pd.DataFrame()
        matrices = _write_figures(matrix_figures(moved, data.metrics), out, files["plots"])
        strengths = _write_figures(strength_figures(analysis), out, files["plots"]) if finished else []
    page = Page(
        title=title,
        command=command,
        sentence=describe(analysis),
        seed_note=seed_note(analysis),
        findings=findings(analysis) if finished else [],
        tables=tables,
        curves=curves,
        scatters=scatters,
        galleries=galleries,
        training=training,
        conditions=conditions(analysis) if finished else [],
        failures=data.failures,
        notes=data.notes,
        provenance=data.provenance,
        files=files,
        bands=band_table(bands(analysis)) if finished else [],
        alarms=alarms(analysis) if finished else [],
        doubts=doubts(analysis) if finished else [],
        suites=suite_table(suites(analysis)) if finished else [],
        strengths=strengths,
        transfers=transfer_table(moved),
        matrices=matrices,
    )
    write_text(out / "index.html", render(page))
    return out / "index.html"


def _cost_figures(analysis: Analysis) -> dict[str, Figure]:
    """What robustness cost: the list of defenses, where there are many, and the scatter against accuracy."""
    return {**ranking_figures(analysis), **scatter_figures(analysis)}


def _write_tables(analysis: Analysis, out: Path, title: str) -> list[str]:
    tables = summary_tables(analysis)
    texts = {f"{name}.csv": frame.to_csv(index=False) for name, frame in csv_frames(analysis).items()}
    if len(certified := bands(analysis)):
        texts["certificates.csv"] = certified.to_csv(index=False)
    if len(moved := transfers(analysis)):
        texts["transfer.csv"] = moved.to_csv(index=False)
    if len(members := suites(analysis)):
        texts["suites.csv"] = members.to_csv(index=False)
    texts |= {"summary.md": markdown(tables, title), "summary.tex": latex(tables, title)}
    for name, text in texts.items():
        write_text(out / "tables" / name, text)
    return [f"tables/{name}" for name in texts]


def _write_figures(figures: Mapping[str, Figure], out: Path, written: list[str]) -> list[Picture]:
    pictures = []
    for name, figure in figures.items():
        picture = Picture(slug(name), name, png(figure))
        for suffix, content in (("png", picture.data), ("svg", svg(figure))):
            written.append(_write_plot(out, f"{picture.name}.{suffix}", content))
        pictures.append(picture)
    return pictures


def _write_plot(out: Path, name: str, content: bytes) -> str:
    """The file's path relative to the page."""
    with replacing(out / "plots" / name) as beside:
        beside.write_bytes(content)
    return f"plots/{name}"


def _write_galleries(analysis: Analysis, out: Path, written: list[str]) -> dict[str, list[Picture]]:
    """By panel, a gallery a defense: the one of its lowest seed."""
    found: dict[str, list[Picture]] = {}
    records = analysis.table.to_dict("records") if analysis.data.galleries else []
    for record in records:
        gallery = analysis.data.galleries.get(str(record["group_id"]))
        if gallery is None:
            continue
        panel = (
            f"{record['attribution']}, {record['attack']} · {record['dataset']} / {record['model']}, {record['norm']}"
        )
        keys = ("dataset", "model", "norm", "attribution", "attack", "series")
        name = slug("gallery", *(str(record[key]) for key in keys), f"s{gallery.seed}")
        title = f"{record['series']} · {record['attribution']}, {record['attack']} attack · seed {gallery.seed}"
        figure = gallery_figure(gallery, analysis.data.metrics.get(gallery.metric), title)
        picture = Picture(name, title, png(figure))
        written.append(_write_plot(out, f"{name}.png", picture.data))
        found.setdefault(panel, []).append(picture)
    return found
