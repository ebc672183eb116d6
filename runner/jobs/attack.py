"""The job `attack`: one attack on one model over the whole epsilon grid, resumable at every (chunk, epsilon) step."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from runner.core import stopping, store
from runner.core.errors import require
from runner.core.identity import Config, source_of
from runner.core.progress import Advance, progress
from runner.core.store import Folder
from runner.core.types import Reviewing
from runner.jobs import checks, parts, source, train
from runner.jobs.cells import attack_cell
from runner.jobs.chunk import NOTE, Chunk
from runner.jobs.gallery import draw_gallery, write_gallery
from runner.jobs.once import do_once
from runner.jobs.setup import Setup
from runner.tracking import Tracker

MEASURED = (
    *("example_id", "epsilon", "norm", "label", "clean_prediction", "adversarial_prediction"),
    *("clean_correct", "label_preserved", "perturbation_norm"),
)
"""The first columns of `rows.parquet`; the metrics, the harm by the attack's own draws and the identity follow."""

log = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Attack the model of this config, training it first if it is not there. Returns the content of `result.json`."""
    checks.check(config)
    cell = attack_cell(config)
    return do_once(cell, config, lambda: ready(config), lambda folder, tracker: _attack(config, folder, tracker))


def ready(config: Config) -> None:
    """Load what the attack and its training need. Errors: `ConfigError`, before anything is written."""
    examples(config)
    train.ready(config)
    if (stated := source_of(config)) is not None:
        ready(stated)


def examples(config: Config) -> int:
    """How many test examples are attacked. Errors: `ConfigError` when there are not so many."""
    available = len(parts.dataset(config).test)
    wanted: int = config["examples"] or available
    require(
        wanted <= available, "examples", wanted, f"at most the {available} examples of the test split, or null for all"
    )
    return wanted


def _attack(config: Config, folder: Folder, tracker: Tracker) -> dict[str, Any]:
    trained = train.run(config)
    if (stated := source_of(config)) is not None:
        run(stated)
    setup = Setup.of(config)
    chunks = _search(setup, examples(config), folder)
    rows = _rows(config, chunks)
    content = _finish(setup, chunks, rows, folder, tracker)
    return {**content, **{key: trained.get(key) for key in ("test_accuracy", "seconds_per_epoch", "epochs")}}


def _search(setup: Setup, count: int, folder: Folder) -> list[Chunk]:
    """Walk every chunk up the grid; what an earlier call finished is read back, and its chunk boundaries are kept."""
    size = _chunk_size(setup.config, folder)
    parts_of_test = torch.arange(count).split(size)
    files = (folder.scratch / f"chunk-{number:05d}.safetensors" for number in range(len(parts_of_test)))
    chunks = [Chunk.open(setup, indices, file) for indices, file in zip(parts_of_test, files, strict=True)]
    done = sum(len(chunk.steps) for chunk in chunks)
    title = (
        f"{setup.config['attack']['name']} on {setup.config['attribution']['name']}, {setup.config['defense']['name']}"
    )
    with progress(title, len(chunks) * len(setup.epsilons), done) as advance:
        for chunk in chunks:
            _climb(chunk, advance)
    stopping.check()
    return chunks


def _climb(chunk: Chunk, advance: Advance) -> None:
    """One saved step a budget. Errors: `StopRequested` between two."""
    for epsilon in chunk.setup.epsilons[len(chunk.steps) :]:
        stopping.check()
        chunk.step(epsilon)
        chunk.save()
        values = chunk.steps[-1]
        advance(
            f"epsilon {epsilon:g}: "
            + ", ".join(f"{name} {float(values[name].mean()):.3f}" for name in list(chunk.setup.metrics)[:2])
        )


def _chunk_size(config: Config, folder: Folder) -> int:
    """The chunk size of this folder: rows are bit-identical only for the boundaries they were begun with."""
    file = folder.scratch / "plan.json"
    wanted = int(config["attack"]["chunk"])
    if not file.is_file():
        store.write_json(file, {"chunk": wanted})
    begun = int(json.loads(file.read_text(encoding="utf-8"))["chunk"])
    if begun != wanted:
        log.warning("attack.chunk=%d: this run was begun with %d, which is kept", wanted, begun)
    return begun


def _rows(config: Config, chunks: Sequence[Chunk]) -> pd.DataFrame:
    """One row per (example, epsilon), ordered by epsilon and then by example; the columns too have one order."""
    identity = attack_cell(config).columns
    rows = pd.concat([chunk.frame() for chunk in chunks], ignore_index=True)
    rows = rows.sort_values(["epsilon", "position"], ignore_index=True).assign(**identity)
    last = [name for name in identity if name not in MEASURED]
    notes = sorted(name for name in map(str, rows) if name.startswith("attack_") and name != "attack_harm")
    bound = sorted(name for name in map(str, rows) if name.split("_")[0] == "certificate")
    return rows[[*MEASURED, *parts.metrics(config), "attack_harm", *notes, *bound, *last]]


def _finish(
    setup: Setup, chunks: Sequence[Chunk], rows: pd.DataFrame, folder: Folder, tracker: Tracker
) -> dict[str, Any]:
    store.write_frame(folder.path / "rows.parquet", rows)
    if setup.config["attack"]["save_images"]:
        store.write_tensors(folder.path / "images.safetensors", _images(setup, chunks))
    write_gallery(setup, chunks, rows, folder.path / "gallery.safetensors")
    picture = draw_gallery(setup, folder.path / "gallery.safetensors")
    _track(setup, rows, folder, tracker)
    tracker.image("gallery", picture, "worst, median and best example at the largest budget")
    attacked = rows[rows.epsilon > 0]
    return {
        "epsilons": list(setup.epsilons),
        "examples": int(rows.example_id.nunique()),
        "unharmed": {
            f"{epsilon:g}": float(part.perturbation_norm.eq(0).mean()) for epsilon, part in attacked.groupby("epsilon")
        },
        "kept_by": setup.attack.measure,
        "stochastic": setup.attribution.stochastic,
        "twin": setup.twin_report(chunks),
        **_certified(setup),
        **source.report(setup, chunks),
        **_verdict(setup, chunks),
        "metrics": {
            name: {"direction": metric.direction, "range": list(metric.range), "unit": metric.unit}
            for name, metric in setup.metrics.items()
        },
    }


def _verdict(setup: Setup, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """What an attack says of the whole run; the flags that it raises are told at once."""
    if not isinstance(setup.attack, Reviewing):
        return {}
    names = [name for name in chunks[0].steps[0] if name.startswith(NOTE)]
    notes = {
        name.removeprefix(NOTE): torch.stack(
            [torch.cat([chunk.steps[place][name] for chunk in chunks]) for place in range(len(setup.epsilons))]
        )
        for name in names
    }
    told = setup.attack.verdict(setup.epsilons, notes)
    for name, flag in told.get("flags", {}).items():
        if flag["tripped"]:
            budgets = ", ".join(f"{epsilon:g}" for epsilon in flag["epsilons"])
            log.warning(
                "%s: %s (epsilon %s: %.3g, bound %.3g)", name, flag["says"], budgets, flag["value"], flag["bound"]
            )
    return told


def _certified(setup: Setup) -> dict[str, Any]:
    if setup.certificate is None:
        return {}
    name, certificate = setup.config["certificate"]["name"], setup.certificate
    return {"certificate": {"name": name, "bounds": certificate.bounds, "confidence": certificate.confidence}}


def _images(setup: Setup, chunks: Sequence[Chunk]) -> dict[str, Tensor]:
    """Perturbed images (E, N, C, H, W) in the order of the rows, the clean ones (N, C, H, W) and their numbers."""
    return {
        "perturbed": torch.cat([torch.stack([step["images"] for step in chunk.steps]) for chunk in chunks], dim=1),
        "clean": torch.cat([chunk.images.cpu() for chunk in chunks]),
        "example_id": torch.cat([chunk.ids for chunk in chunks]),
        "epsilons": torch.tensor(setup.epsilons, dtype=torch.float64),
    }


def _track(setup: Setup, rows: pd.DataFrame, folder: Folder, tracker: Tracker) -> None:
    for epsilon, part in rows.groupby("epsilon"):
        values = {f"metric/{name}": float(part[name].mean()) for name in setup.metrics}
        values["attack/unharmed"] = float(part.perturbation_norm.eq(0).mean())
        values["attack/label_preserved"] = float(part.label_preserved.mean())
        tracker.log(values, step_name="epsilon", step=float(str(epsilon)))
    tracker.table("rows", rows)
    tracker.artifact("rows", "rows", [folder.path / "rows.parquet", folder.path / "config.yaml"], {})
