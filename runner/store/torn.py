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


def read_rows(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A parquet file of a finished run, which must have these columns.

    Errors: `StoreError` when it is missing, damaged or lacks a column.
    """
    import pandas as pd

    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        raise torn(path, str(error).rpartition("': ")[2]) from None
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise torn(path, f"columns missing: {', '.join(missing)}")
    return rows


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
