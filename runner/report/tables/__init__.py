"""The tables of a report, as text and as CSV files."""
