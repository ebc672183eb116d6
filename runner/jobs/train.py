"""The job `train`: one model, from one config, resumable at every epoch."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from runner.core import rng, store
from runner.core.identity import Config
from runner.core.progress import progress
from runner.core.store import Folder
from runner.core.types import Batch, Defense
from runner.datasets.augment import augment
from runner.datasets.base import Dataset, Examples
from runner.jobs import parts
from runner.jobs.cells import do_once, finished, train_cell
from runner.jobs.optimisation import Training
from runner.models.weights import load_weights
from runner.tracking import Tracker

STATE = "training.pt"
log = logging.getLogger(__name__)


class DivergedError(RuntimeError):
    """The training loss is no longer finite."""


def run(config: Config) -> dict[str, Any]:
    """Train the model of this config, or take the finished one. Returns the content of its `result.json`."""
    parts.check(config)
    cell = train_cell(config)
    return do_once(cell, config, lambda: ready(config), lambda folder, tracker: _train(config, folder, tracker))


def ready(config: Config) -> None:
    """Load what training needs, unless the model is finished.

    Errors: `ConfigError` for missing data, no training split, or unfit model.weights.
    """
    if finished(train_cell(config), config):
        return
    data = parts.dataset(config)
    if config["training"]["epochs"] > 0:
        data.training_split()
    if config["model"].get("weights"):
        parts.part(config, "model")


def load_model(config: Config, device: torch.device) -> nn.Module:
    """The finished model of this config, in evaluation mode and with frozen parameters."""
    model: nn.Module = parts.part(parts.without_weights(config), "model")
    load_weights(model, str(train_cell(config).folder / "model.safetensors"))
    return model.to(device).eval().requires_grad_(False)


def _train(config: Config, folder: Folder, tracker: Tracker) -> dict[str, Any]:
    device, training = parts.device_of(config), parts.part(config, "training")
    data = parts.dataset(config)
    defense: Defense = parts.part(config, "defense")
    torch.manual_seed(config["seed"])
    model: nn.Module = parts.part(config, "model").to(device)
    optimizer = training.make_optimizer(model)
    history = _resume(folder.scratch / STATE, model, optimizer)
    loop = _Loop(config, training, defense, data, model, optimizer, device)
    with progress(f"train {config['defense']['name']} seed {config['seed']}", training.epochs, len(history)) as advance:
        for epoch in range(len(history), training.epochs):
            history.append(loop.epoch(epoch))
            _save(folder.scratch / STATE, model, optimizer, history)
            tracker.log(_scalars(history[-1]), step_name="epoch", step=epoch)
            advance(f"loss {history[-1]['loss']:.3f}, test accuracy {history[-1]['test_accuracy']:.3f}")
    return _finish(folder, tracker, model, history, loop)


def _finish(
    folder: Folder, tracker: Tracker, model: nn.Module, history: list[dict[str, float]], loop: _Loop
) -> dict[str, Any]:
    test_accuracy = history[-1]["test_accuracy"] if history else accuracy(model, loop.data.test, loop.device)
    store.write_tensors(folder.path / "model.safetensors", model.state_dict())
    store.write_frame(folder.path / "history.parquet", pd.DataFrame(history))
    tracker.artifact(
        "model",
        "model",
        [folder.path / "model.safetensors", folder.path / "config.yaml"],
        {"test_accuracy": test_accuracy},
    )
    return {
        "test_accuracy": test_accuracy,
        "test_examples": len(loop.data.test),
        "train_examples": len(loop.data.train),
        "epochs": len(history),
        "seconds_per_epoch": sum(row["seconds"] for row in history) / max(len(history), 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


class _Loop:
    """One epoch after another of the same model."""

    def __init__(
        self,
        config: Config,
        training: Training,
        defense: Defense,
        data: Dataset,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        self.config, self.training, self.defense, self.data = config, training, defense, data
        self.model, self.optimizer, self.device = model, optimizer, device

    def epoch(self, number: int) -> dict[str, float]:
        """Pass over the training split once; returns its history row (losses are means over batches)."""
        began, sums = time.perf_counter(), defaultdict[str, float](float)
        torch.manual_seed(self.config["seed"] * 1_000_003 + number)  # dropout: the same after a resume as without one
        batches = self._order(number).split(self.training.batch_size)
        self.model.train()
        for index, loaded in enumerate(self.data.train.batches(batches, self.device)):
            position = (number + index / len(batches)) / self.training.epochs
            for name, value in self._step(self._batch(*loaded, epoch=number, position=position)).items():
                sums[name] += float(value) / len(batches)
        seconds = time.perf_counter() - began
        test_accuracy = accuracy(self.model, self.data.test, self.device)
        return {"epoch": number, **sums, "test_accuracy": test_accuracy, "seconds": seconds}

    def _order(self, epoch: int) -> Tensor:
        keys = rng.example_keys(self.config["seed"], torch.arange(len(self.data.train)), f"order-{epoch}")
        return keys.argsort()

    def _batch(self, images: Tensor, labels: Tensor, ids: Tensor, *, epoch: int, position: float) -> Batch:
        keys = rng.example_keys(self.config["seed"], ids.cpu(), f"train-{epoch}").to(self.device)
        if self.training.augment:
            images = augment(images, rng.fold(keys, 0), **self.config["dataset"]["augmentation"])
        return Batch(images, labels, rng.fold(keys, 1), position)

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.rate(batch.progress)
        loss, scalars = self.defense.loss(self.model, batch)
        if not math.isfinite(float(loss.detach())):
            raise DivergedError(f"loss is {float(loss.detach())} at {batch.progress:.1%} of the training")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), **scalars}


def accuracy(model: nn.Module, examples: Examples, device: torch.device, batch_size: int = 500) -> float:
    """Share of examples whose predicted class is the label, in evaluation mode."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels, _ in examples.batches(torch.arange(len(examples)).split(batch_size), device):
            correct += int((model(images).argmax(dim=1) == labels).sum())
    return correct / max(len(examples), 1)


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]) -> None:
    with store.replacing(path) as beside:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}, beside)


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Load the last epoch's state and return its history; an empty one when there is none. No foreign code is run."""
    if not path.is_file():
        return []
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    history: list[dict[str, float]] = state["history"]
    log.info("resuming after epoch %d", len(history))
    return history


def _scalars(row: dict[str, float]) -> dict[str, float]:
    return {f"train/{name}": value for name, value in row.items() if name != "epoch"}
