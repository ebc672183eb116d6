"""Files of finished runs that cannot be read: the message names the file and how to make its run again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from runner.core.errors import StoreError
from runner.store.folder import Folder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def read_rows(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A parquet file of a finished run, which must have these columns.

    Errors: `StoreError` when it is missing, damaged or lacks a column.
    """
    rows: pd.DataFrame = read_table(path, columns).to_pandas()
    return rows


def read_table(path: Path, columns: Sequence[str] = (), repeated: Sequence[str] = ()) -> pa.Table:
    """The same without pandas: a third of the time. The texts in the columns `repeated` are held once each, as a dictionary."""
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, read_dictionary=list(repeated)) as file:
            table = file.read(use_threads=False)
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise torn(path, str(error).rpartition("': ")[2]) from None
    except KeyError:  # one of those that repeat
        raise torn(path, f"columns missing, of {', '.join(repeated)}") from None
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise torn(path, f"columns missing: {', '.join(missing)}")
    return table


def read_result(folder: Path) -> dict[str, Any] | None:
    """The `result.json` of a run, None if there is none. Errors: `StoreError` when it is damaged."""
    try:
        return Folder(folder).stated()
    except ValueError as error:
        raise torn(folder / "result.json", error) from None


def torn(path: Path, why: object) -> StoreError:
    """The error for a file in the folder of a finished run that cannot be used."""
    reason = (str(why).splitlines() or ["damaged"])[0]
    return StoreError(f"{path}: cannot be read ({reason}); {_again(path.parent.resolve())}")


def _again(folder: Path) -> str:
    """How to make the run of a folder again: the command for the config that is stored there, if that can be read."""
    try:
        whole = "job" in OmegaConf.load(folder / "config.yaml")
    except Exception:  # a broken file raises anything in YAML
        whole = False
    if not whole:
        return f"to make its run again, remove {folder} and repeat the command that made it"
    identity, outputs = folder.name.rsplit("-", 1)[-1], folder.parents[1]
    stored = ["python", "run.py", "--config-path", str(folder), "--config-name", "config"]
    quiet = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return "to make its run again: " + shlex.join([*stored, *quiet, f"outputs={outputs}", f"rerun=[{identity}]"])
