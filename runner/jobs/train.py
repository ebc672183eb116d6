"""The job `train`: one model from one config. Resumable at every epoch, and after a stop signal at every batch."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
import torch

from runner.core import signals
from runner.core.errors import ConfigError
from runner.core.flags import as_data
from runner.core.progress import progress
from runner.datasets.base import Examples
from runner.runs.run import Run
from runner.runs.run_once import run_once
from runner.runs.trial import check_logits, trains_on_one
from runner.runs.untrained import untrained_flag
from runner.store import files
from runner.store.folder import Folder
from runner.tracking import Tracker
from runner.training.checkpoint import Checkpoint
from runner.training.recomputed_statistics import accuracy_with_fresh_statistics, statistics_flag
from runner.training.trainer import Trainer, accuracy

LEAST_STEPS = 100
"""Shorter trainings count as trials and may end at chance accuracy."""


log = logging.getLogger(__name__)


class CollapsedError(RuntimeError):
    """The trained model is no better than chance."""


def run(run: Run) -> dict[str, Any]:
    """Train the model of a run, unless it is finished. Returns the content of its `result.json`."""
    return run_once(run, lambda: ready(run), lambda folder, tracker: _train(run, folder, tracker))


def ready(run: Run) -> None:
    """Load the data and weights that training needs, unless the model is finished.

    Errors: `ConfigError` for missing data, no training split, invalid `model.weights`, or logits that are not finite.
    """
    if run.result() is not None:
        return
    data = run.parts.dataset
    if run.parts.training.epochs > 0:
        _check_batches(run, len(data.training_split()))
    model = run.parts.new_model() if run.config["model"].get("weights") else run.parts.model_on_cpu
    check_logits(model, run.config, data.test.batch(range(min(len(data.test), 2)), "cpu")[0])


def _check_batches(run: Run, examples: int) -> None:
    """Refuse a last batch of one image if the network cannot train on one, and say when an epoch is a single batch."""
    size = run.parts.training.batch_size
    if size > examples:
        log.warning("training.batch_size=%d: there are %d training images; an epoch is one step on all", size, examples)
    if 1 in (size, examples, examples % size) and not trains_on_one(run.config, run.parts):
        allowed = f"at least 2, and leave no single image of the {examples}: BatchNorm cannot train on one"
        raise ConfigError(f"training.batch_size={size}: must be {allowed}")


def _train(run: Run, folder: Folder, tracker: Tracker) -> dict[str, Any]:
    torch.manual_seed(run.config["seed"])
    trainer = Trainer.of(run, folder.path / "diverged.safetensors")
    checkpoint = Checkpoint(folder, trainer)
    history = checkpoint.resume()
    epochs = trainer.training.epochs
    with progress(f"train {run.columns['defense']} seed {run.columns['seed']}", epochs, len(history)) as advance:
        for epoch in range(len(history), epochs):
            signals.check()
            history.append(_epoch(epoch, trainer, checkpoint, history))
            checkpoint.save(history)
            tracker.log(_scalars(history[-1]), step_name="epoch", step=epoch)
            advance(f"loss {history[-1]['loss']:.3f}, test accuracy {history[-1]['test_accuracy']:.3f}")
    return _finish(run, folder, tracker, history, trainer)


def _epoch(number: int, trainer: Trainer, checkpoint: Checkpoint, history: list[dict[str, float]]) -> dict[str, float]:
    """The history row of an epoch; a stop inside the epoch saves the state."""
    try:
        return trainer.epoch(number)
    except signals.StopRequested:
        checkpoint.save(history)
        raise


def _finish(
    run: Run, folder: Folder, tracker: Tracker, history: list[dict[str, float]], trainer: Trainer
) -> dict[str, Any]:
    model, test = trainer.judged, trainer.data.test
    trainer.require_finite("trained weights")
    test_accuracy = history[-1]["test_accuracy"] if history else accuracy(model, test, trainer.device)
    fresh = accuracy_with_fresh_statistics(model, trainer.data, trainer.device) if history else None
    if len(history) * len(trainer.data.train) >= LEAST_STEPS * trainer.training.batch_size:
        _refuse_chance(test_accuracy, test)
    stored = [folder.path / "model.safetensors", folder.path / "config.yaml"]
    files.write_tensors(stored[0], model.state_dict())
    files.write_frame(folder.path / "history.parquet", pd.DataFrame(history))
    tracker.artifact("model", "model", stored, {"test_accuracy": test_accuracy})
    watched = ("top_eigenvalue", "gradient_lipschitz", "forward_passes", "backward_passes")
    flags = {"untrained_network": untrained_flag(run.config)}
    if fresh is not None:
        flags["batchnorm_statistics"] = statistics_flag(test_accuracy, fresh)
    return {
        "flags": as_data(flags),
        "test_accuracy": test_accuracy,
        **({} if fresh is None else {"test_accuracy_fresh_statistics": fresh}),
        "test_examples": len(test),
        "train_examples": len(trainer.data.train),
        "epochs": len(history),
        "seconds_per_epoch": sum(row["seconds"] for row in history) / max(len(history), 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **{name: history[-1][name] for name in watched if history and name in history[-1]},
    }


def _refuse_chance(test_accuracy: float, test: Examples) -> None:
    """Raise `CollapsedError` for a model that is no better than guessing, so that the run counts as failed.

    Guessing the most frequent class has accuracy p; accuracies up to three standard errors above p count as guessing.
    """
    share = float(test.labels.bincount().max()) / len(test)
    bound = share + 3 * (share * (1 - share) / len(test)) ** 0.5
    if test_accuracy <= min(bound, 0.99):
        raise CollapsedError(f"test accuracy {test_accuracy:.3f} is no better than chance (up to {bound:.3f})")


def _scalars(row: dict[str, float]) -> dict[str, float]:
    return {f"train/{name}": value for name, value in row.items() if name != "epoch"}
