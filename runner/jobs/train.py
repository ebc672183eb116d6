"""The job `train`: one model, from one config; resumable at every epoch, and where it was told to stop at every batch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from runner.core import stopping, store
from runner.core.identity import Config
from runner.core.progress import progress
from runner.core.state import read_state, write_state
from runner.core.store import Folder
from runner.core.types import Defense
from runner.datasets.base import Examples
from runner.jobs import checks, parts
from runner.jobs.cells import finished, train_cell
from runner.jobs.loop import Loop, accuracy
from runner.jobs.once import do_once
from runner.models.weights import load_weights
from runner.tracking import Tracker

STATE = "training.pt"
log = logging.getLogger(__name__)


LEAST_STEPS = 100
"""A training of fewer steps is a trial: it may end at chance."""


class CollapsedError(RuntimeError):
    """The trained model is no better than chance."""


def run(config: Config) -> dict[str, Any]:
    """Train the model of this config, or take the finished one. Returns the content of its `result.json`."""
    checks.check(config)
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
    defense: Defense = parts.part(config, "defense")
    torch.manual_seed(config["seed"])
    model: nn.Module = parts.part(config, "model").to(device)
    loop = Loop(config, training, defense, parts.dataset(config), model, folder.path / "diverged.safetensors")
    history = _resume(folder.scratch / STATE, loop)
    with progress(f"train {config['defense']['name']} seed {config['seed']}", training.epochs, len(history)) as advance:
        for epoch in range(len(history), training.epochs):
            stopping.check()
            history.append(_epoch(epoch, loop, history, folder))
            write_state(folder.scratch / STATE, loop.state() | {"history": history})
            tracker.log(_scalars(history[-1]), step_name="epoch", step=epoch)
            advance(f"loss {history[-1]['loss']:.3f}, test accuracy {history[-1]['test_accuracy']:.3f}")
    return _finish(folder, tracker, history, loop)


def _epoch(number: int, loop: Loop, history: list[dict[str, float]], folder: Folder) -> dict[str, float]:
    """The history row of an epoch; a stop in the middle of it saves where it was."""
    try:
        return loop.epoch(number)
    except stopping.StopRequested:
        write_state(folder.scratch / STATE, loop.state() | {"history": history})
        raise


def _finish(folder: Folder, tracker: Tracker, history: list[dict[str, float]], loop: Loop) -> dict[str, Any]:
    model, test = loop.judged, loop.data.test
    test_accuracy = history[-1]["test_accuracy"] if history else accuracy(model, test, loop.device)
    if len(history) * len(loop.data.train) >= LEAST_STEPS * loop.training.batch_size:
        _refuse_chance(test_accuracy, test)
    files = [folder.path / "model.safetensors", folder.path / "config.yaml"]
    store.write_tensors(files[0], model.state_dict())
    store.write_frame(folder.path / "history.parquet", pd.DataFrame(history))
    tracker.artifact("model", "model", files, {"test_accuracy": test_accuracy})
    watched = ("top_eigenvalue", "gradient_lipschitz", "forward_passes", "backward_passes")
    return {
        "test_accuracy": test_accuracy,
        "test_examples": len(test),
        "train_examples": len(loop.data.train),
        "epochs": len(history),
        "seconds_per_epoch": sum(row["seconds"] for row in history) / max(len(history), 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **{name: history[-1][name] for name in watched if history and name in history[-1]},
    }


def _refuse_chance(test_accuracy: float, test: Examples) -> None:
    """A model that is no better than guessing has collapsed: that run failed, and is counted so.

    Guessing the most frequent class has accuracy p; three standard errors above it count as guessing.
    """
    share = float(test.labels.bincount().max()) / len(test)
    bound = share + 3 * (share * (1 - share) / len(test)) ** 0.5
    if test_accuracy <= min(bound, 0.99):
        raise CollapsedError(f"test accuracy {test_accuracy:.3f} is no better than chance (up to {bound:.3f})")


def _resume(path: Path, loop: Loop) -> list[dict[str, float]]:
    """Load the last state and return the history of its epochs; an empty one when there is none."""
    state = read_state(path)
    if state is None:
        return []
    loop.restore(state)
    history: list[dict[str, float]] = state["history"]
    log.info("resuming after epoch %d and %d batches", len(history), loop.underway.batches)
    return history


def _scalars(row: dict[str, float]) -> dict[str, float]:
    return {f"train/{name}": value for name, value in row.items() if name != "epoch"}
