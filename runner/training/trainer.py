"""Trains one model, one epoch after another, whatever the defense."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from runner.core import rng, signals
from runner.core.config import Config
from runner.core.types import Batch, Defense, kept_state, steps_per_batch
from runner.datasets.augment import augment
from runner.datasets.base import Dataset, Examples
from runner.defenses.modes import training_step
from runner.models.finite import require_finite
from runner.runs.run import Run
from runner.store import files
from runner.training.monitoring import Passes, curvature
from runner.training.optimisation import Training
from runner.training.training_state import EpochState


class DivergedError(RuntimeError):
    """The training loss is no longer finite."""


class Trainer:
    """A model in training: its optimiser, its moving average if there is one, and the defense's own state."""

    def __init__(
        self, config: Config, training: Training, defense: Defense, data: Dataset, model: nn.Module, culprit: Path
    ) -> None:
        self.config, self.training, self.data = config, training, data
        self.defense = copy.deepcopy(defense)  # its state must belong to this training alone
        self.model, self.culprit = model, culprit
        self.device = next(model.parameters()).device
        self.so_far = EpochState()
        self.optimizer = training.make_optimizer(model)
        average = get_ema_multi_avg_fn(training.ema) if training.ema else None
        self.average = AveragedModel(model, multi_avg_fn=average, use_buffers=True) if average else None

    @classmethod
    def of(cls, run: Run, culprit: Path) -> Trainer:
        """The trainer of a run, before its first epoch. A batch with a non-finite loss is saved to the file `culprit`."""
        parts = run.parts
        model = parts.new_model().to(parts.device)
        return cls(run.config, parts.training, parts.defense, parts.dataset, model, culprit)

    @property
    def judged(self) -> nn.Module:
        """The model that is tested and stored: the moving average if there is one."""
        return self.average.module if self.average is not None else self.model

    def epoch(self, number: int) -> dict[str, float]:
        """Train for one epoch, or the rest of one; returns its history row (losses are means over batches).

        Errors: `StopRequested` between two batches; `state` then includes the position in the epoch. `NotFiniteError` when the
        weights are not finite, also after the last step.
        """
        began, so_far = time.perf_counter(), self.so_far
        so_far.set_random(self.device, self.config["seed"] * 1_000_003 + number)  # dropout: the same after a resume
        batches = self._order(number).split(self.training.batch_size)
        self.model.train()
        with Passes(self.model, *so_far.passes) as passes:
            left = self.data.train.batches(batches[so_far.batches :], self.device)
            for index, loaded in enumerate(left, so_far.batches):
                position = (number + index / len(batches)) / self.training.epochs
                so_far.add(self._steps(self._batch(*loaded, epoch=number, position=position)), len(batches))
                if signals.requested():
                    so_far.seconds += time.perf_counter() - began
                    so_far.passes = (passes.forward, passes.backward)
                    so_far.note_random(self.device)
                    signals.check()
        self.so_far = EpochState()
        self.require_finite(f"after epoch {number}")
        seconds = so_far.seconds + time.perf_counter() - began
        row = {"epoch": number, **so_far.sums, "seconds": seconds, **passes.each(len(self.data.train))}
        return (
            row
            | {"test_accuracy": accuracy(self.judged, self.data.test, self.device)}
            | curvature(self.judged, self.data.test, self.device)
        )

    def require_finite(self, where: str) -> None:
        """Errors: `NotFiniteError` naming a parameter or buffer of the model, or of its moving average, that is not finite."""
        for model in (self.model, self.judged):
            require_finite(model, where)

    def state(self) -> dict[str, Any]:
        """Everything that the next batch depends on, as tensors and plain data."""
        average = self.average.state_dict() if self.average is not None else {}
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": average,
            "defense": dict(kept_state(self.defense)),
            "underway": self.so_far.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.so_far = EpochState(**state.get("underway", {}))
        if state["defense"]:
            moved = {name: tensor.to(self.device) for name, tensor in state["defense"].items()}
            kept_state(self.defense).update(moved)

    def _order(self, epoch: int) -> Tensor:
        keys = rng.example_keys(self.config["seed"], torch.arange(len(self.data.train)), f"order-{epoch}")
        return keys.argsort()

    def _batch(self, images: Tensor, labels: Tensor, ids: Tensor, *, epoch: int, position: float) -> Batch:
        keys = rng.example_keys(self.config["seed"], ids.cpu(), f"train-{epoch}").to(self.device)
        if self.training.augment:
            images = augment(images, rng.fold(keys, 0), **self.config["dataset"]["augmentation"])
        return Batch(images, labels, rng.fold(keys, 1), position, epoch)

    def _steps(self, batch: Batch) -> dict[str, Tensor]:
        """One step on the batch, or as many as the defense wants; returns the scalars of the last step."""
        scalars: dict[str, Tensor] = {}
        for _ in range(steps_per_batch(self.defense)):
            scalars = self._step(batch)
        return scalars

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.rate(batch.progress)
        with training_step(self.model, batch.images):
            return self._descend(batch)

    def _descend(self, batch: Batch) -> dict[str, Tensor]:
        loss, scalars = self.defense.loss(self.model, batch)
        if not math.isfinite(float(loss.detach())):
            files.write_tensors(self.culprit, {"images": batch.images, "labels": batch.labels, "keys": batch.keys})
            where = f"epoch {batch.epoch}, {batch.progress:.1%} of the training"
            raise DivergedError(f"loss is {float(loss.detach())} at {where}; the batch is in {self.culprit.name}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return {"loss": loss.detach(), **scalars}


def accuracy(model: nn.Module, examples: Examples, device: torch.device, batch_size: int = 500) -> float:
    """Share of examples whose predicted class is the label, in evaluation mode."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels, _ in examples.batches(torch.arange(len(examples)).split(batch_size), device):
            correct += int((model(images).argmax(dim=1) == labels).sum())
    return correct / max(len(examples), 1)
