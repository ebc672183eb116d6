"""The job `attack`: one attack on one model over the whole epsilon grid, resumable at every (chunk, epsilon) step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch

from runner.attacking.chunk import Chunk
from runner.attacking.gallery import draw_gallery, write_gallery
from runner.attacking.gradient_check import gradient_flags
from runner.attacking.memory_fit import Fit, fitted
from runner.attacking.results import content_of, images_of, rows_of
from runner.attacking.search import moves
from runner.attacking.setup import Setup
from runner.core import signals
from runner.core.errors import require
from runner.core.flags import as_data
from runner.core.progress import progress
from runner.jobs import train
from runner.runs.effort import save_effort
from runner.runs.run import IMAGES, Run
from runner.runs.run_job import run_job
from runner.runs.run_once import run_once
from runner.store import files
from runner.store.folder import Folder
from runner.tracking import Tracker

FROM_TRAINING = ("test_accuracy", "seconds_per_epoch", "epochs")
"""Fields that are copied from the training's result."""

log = logging.getLogger(__name__)


def run(run: Run) -> dict[str, Any]:
    """Attack the model of a run, training it first if it is missing. Returns the content of `result.json`."""
    return run_once(run, lambda: ready(run), lambda folder, tracker: _attack(run, folder, tracker))


def ready(run: Run) -> None:
    """Load the data of the attack and its training before anything is written. Errors: `ConfigError`."""
    examples(run)
    train.ready(run.inputs[0])
    if run.source is not None:
        ready(run.source)


def examples(run: Run) -> int:
    """How many test examples are attacked. Errors: `ConfigError` when the test split has fewer."""
    available = len(run.parts.dataset.test)
    wanted: int = run.config["examples"] or available
    allowed = f"at most the {available} examples of the test split, or null for all"
    require(wanted <= available, "examples", wanted, allowed)
    return wanted


def _attack(run: Run, folder: Folder, tracker: Tracker) -> dict[str, Any]:
    trained, *_ = [run_job(needed) for needed in run.inputs]
    setup = Setup.of(run)
    fit = _fit(setup, folder)
    setup = fit.applied(setup)
    chunks = _chunks(setup, examples(run), fit.chunk, folder)
    flags = trained.get("flags", {}) | _gradient_flags(chunks[0], folder)
    _search(setup, chunks)
    rows = rows_of(setup, chunks)
    content = content_of(setup, chunks, rows)
    _write(setup, chunks, rows, folder)
    _track(setup, rows, content.get("convergence", {}), folder, tracker)
    flags |= content.get("flags", {})
    return {**content, "flags": flags, **{key: trained.get(key) for key in FROM_TRAINING}}


def _chunks(setup: Setup, count: int, size: int, folder: Folder) -> list[Chunk]:
    """All examples in chunks of that size. Saved steps of an earlier call are read back."""
    parts_of_test = torch.arange(count).split(size)
    states = (folder.scratch / f"chunk-{number:05d}.safetensors" for number in range(len(parts_of_test)))
    return [Chunk.open(setup, indices, state) for indices, state in zip(parts_of_test, states, strict=True)]


def _gradient_flags(chunk: Chunk, folder: Folder) -> dict[str, Any]:
    """The flags about the gradient, measured once and kept for a resumed run. Errors: `NoGradientError`."""
    file, setup = folder.scratch / "gradient.json", chunk.setup
    kept = files.read_json(file)
    if kept is None or not all(isinstance(flag, dict) for flag in kept.values()):
        kept = as_data(gradient_flags(setup.attack, chunk.problem, max(setup.epsilons), setup.norm))
        files.write_json(file, kept)
    return kept


def _search(setup: Setup, chunks: Sequence[Chunk]) -> None:
    """Attack every chunk at every budget; each step is saved. Errors: `StopRequested` between two steps."""
    done, columns = sum(len(chunk.steps) for chunk in chunks), setup.columns
    title = f"{columns['attack']} on {columns['attribution']}, {columns['defense']}"
    signals.check()
    with progress(title, len(chunks) * len(setup.epsilons), done) as advance:
        for chunk, epsilon, new in moves(chunks):
            chunk.save()
            save_effort(_share(chunks))
            if new:
                advance(_found(chunk, epsilon))
            signals.check()


def _found(chunk: Chunk, epsilon: float) -> str:
    """The first two metrics at the budget that a chunk has reached."""
    values = chunk.steps[-1]
    means = (f"{name} {float(values[name].nanmean()):.3f}" for name in list(chunk.setup.metrics)[:2])
    return f"epsilon {epsilon:g}: {', '.join(means)}"


def _share(chunks: Sequence[Chunk]) -> float:
    """The share of the searches that are done, counted in examples. The first step of a chunk, epsilon 0, searches nothing."""
    done = sum(len(chunk.indices) * max(len(chunk.steps) - 1, 0) for chunk in chunks)
    searches = sum(len(chunk.indices) for chunk in chunks) * (len(chunks[0].setup.epsilons) - 1)
    return done / max(searches, 1)


def _fit(setup: Setup, folder: Folder) -> Fit:
    """The sizes that this folder was begun with: only the same chunks and passes give bit-identical rows."""
    file, wanted = folder.scratch / "plan.json", int(setup.config["attack"]["chunk"])
    begun = files.read_json(file) or {}
    if not isinstance(begun.get("chunk"), int):
        for state in folder.scratch.glob("chunk-*.safetensors"):  # of unknown boundaries
            state.unlink()
        begun = {"wanted": wanted, **asdict(fitted(setup, wanted))}
        files.write_json(file, begun)
    before = begun.get("wanted", begun["chunk"])
    if before != wanted:
        log.warning("attack.chunk=%d: this run was started with %d, which is kept", wanted, before)
    return Fit(begun["chunk"], begun.get("images"))


def _write(setup: Setup, chunks: Sequence[Chunk], rows: pd.DataFrame, folder: Folder) -> None:
    files.write_frame(folder.path / "rows.parquet", rows)
    if setup.keeps_images:
        files.write_tensors(folder.path / IMAGES, images_of(setup, chunks))
    write_gallery(setup, chunks, rows, folder.path / "gallery.safetensors")


def _track(setup: Setup, rows: pd.DataFrame, convergence: Mapping[str, Any], folder: Folder, tracker: Tracker) -> None:
    for epsilon, part in rows.groupby("epsilon"):
        values = {f"metric/{name}": float(part[name].mean()) for name in setup.metrics}
        values |= {f"undefined/{name}": float(part[name].isna().sum()) for name in setup.metrics}
        values["attack/unharmed"] = float(part.perturbation_norm.eq(0).mean())
        values["attack/label_preserved"] = float(part.label_preserved.mean())
        if (near := convergence.get("budgets", {}).get(f"{float(str(epsilon)):g}")) is not None:
            values["attack/gain_of_last_doubling"] = near["gain"]
        tracker.log(values, step_name="epsilon", step=float(str(epsilon)))
    if convergence:
        tracker.summary({"gain_of_last_doubling": convergence["gain"]})
    tracker.table("rows", rows)
    tracker.artifact("rows", "rows", [folder.path / "rows.parquet", folder.path / "config.yaml"], {})
    picture = draw_gallery(setup, folder.path / "gallery.safetensors")
    tracker.image("gallery", picture, "worst, median and best example at the largest budget")
