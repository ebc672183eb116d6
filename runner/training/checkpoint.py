"""The saved state of a training: the trainer's state and the history so far, in one file."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from runner.runs.effort import save_effort
from runner.store.folder import Folder
from runner.store.saved_state import read_state, write_state
from runner.training.trainer import Trainer

STATE = "training.pt"
"""File name in the run's scratch folder."""

log = logging.getLogger(__name__)

History = list[dict[str, float]]
"""One row per epoch."""


@dataclass(frozen=True)
class Checkpoint:
    """The saved state of one training."""

    folder: Folder
    trainer: Trainer

    @property
    def file(self) -> Path:
        """Path of the file."""
        return self.folder.scratch / STATE

    def save(self, history: History) -> None:
        """Write it in one step."""
        write_state(self.file, self.trainer.state() | {"history": history})
        save_effort(self._share(len(history)))

    def _share(self, epochs: int) -> float:
        """The share of the training that is done, after so many epochs and the batches of an unfinished one."""
        training = self.trainer.training
        batches = math.ceil(len(self.trainer.data.train) / training.batch_size)
        return (epochs + self.trainer.so_far.batches / batches) / training.epochs

    def resume(self) -> History:
        """Restore the trainer and return the history of its epochs; empty if nothing is saved."""
        state = read_state(self.file)
        if state is None:
            return []
        if missing := sorted({"history", *self.trainer.state()} - {"underway"} - set(state)):
            log.warning("%s lacks %s: its work starts from the beginning", self.file, ", ".join(missing))
            return []
        self.trainer.restore(state)
        history: History = state["history"]
        log.info("resuming after epoch %d and %d batches", len(history), self.trainer.so_far.batches)
        return history
