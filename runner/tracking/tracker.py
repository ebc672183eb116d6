"""The interface through which jobs show their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Tracker:
    """A tracker that shows nothing: for `tracking=none`, and if W&B cannot start.

    Methods of subclasses never raise W&B's errors.
    """

    def log(self, values: Mapping[str, float], *, step_name: str, step: float) -> None:
        """Add one point to each named curve, against the axis `step_name` ("epoch", "epsilon")."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Single values of the whole job."""

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """A table of at most `tracking.max_table_rows` rows: a fixed random sample of a longer frame."""

    def image(self, name: str, path: Path, caption: str = "") -> None:
        """An image file."""

    def artifact(self, name: str, kind: str, files: Sequence[Path], metadata: Mapping[str, Any]) -> None:
        """Files of the store as a versioned artifact, by reference: they are not copied."""

    def finish(self, exit_code: int) -> None:
        """End of the job; called by `track`."""
