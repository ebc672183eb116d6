"""Tables, plots and one page from the store's files: `build_report`; in a terminal: `load`, then `print_summary`."""

from runner.report.build import build_report, write_report
from runner.report.load import ReportData, load
from runner.report.terminal import print_summary

__all__ = ["ReportData", "build_report", "load", "print_summary", "write_report"]
