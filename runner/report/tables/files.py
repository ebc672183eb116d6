"""The files in `tables/`: CSV files with all digits, and the summary as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from runner.report.analysis import Analysis
from runner.report.tables.latex import latex
from runner.report.tables.markdown import markdown
from runner.report.tables.summary import Table


def table_files(analysis: Analysis, summary: Sequence[Table], title: str) -> dict[str, str]:
    """Text by file name. Comparisons, certificates, transfers and suites have a file if there are any."""
    frames = {
        "summary": analysis.table,
        "curves": analysis.curves,
        "areas": analysis.areas,
        "critical": analysis.critical,
    }
    optional = {
        "comparisons": analysis.comparisons,
        "certificates": analysis.bands,
        "transfer": analysis.transfers,
        "suites": analysis.suites,
    }
    frames |= {name: frame for name, frame in optional.items() if len(frame)}
    texts = {f"{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}
    return {**texts, "summary.md": markdown(summary, title), "summary.tex": latex(summary, title)}
