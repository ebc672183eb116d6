"""Files of finished runs that cannot be read: the message names the file and how to make its run again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.core.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd


def read_rows(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A parquet file of a finished run, which must have these columns.

    Errors: `StoreError` when it is missing, damaged or lacks a column.
    """
    import pandas as pd

    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise torn(path, error) from None
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise torn(path, f"columns missing: {', '.join(missing)}")
    return rows


def torn(path: Path, why: object) -> StoreError:
    """The error for a file in the folder of a finished run that cannot be used."""
    reason = (str(why).splitlines() or ["damaged"])[0]
    return StoreError(f"{path}: cannot be read ({reason}); to make its run again: {_again(path.parent.resolve())}")


def _again(folder: Path) -> str:
    """The command that makes the run of a folder again, from the config that is stored there."""
    identity, outputs = folder.name.rsplit("-", 1)[-1], folder.parents[1]
    stored = ["python", "run.py", "--config-path", str(folder), "--config-name", "config"]
    quiet = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return shlex.join([*stored, *quiet, f"outputs={outputs}", f"rerun=[{identity}]"])
