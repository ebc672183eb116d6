"""The results of an attack run: its rows, its perturbed images if wanted, and the content of its `result.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from runner.attacking.chunk import NOTE, Chunk
from runner.attacking.convergence import Convergence, as_result, converged, not_converged
from runner.attacking.degenerate import map_counts, number_flags, undefined_counts
from runner.attacking.setup import Setup
from runner.attacking.transfer_images import maps_of_its_own_classes
from runner.core.attack_types import Reviewing
from runner.core.cosine import map_cosines, mean_cosine
from runner.core.flags import as_data
from runner.core.hashing import digest
from runner.runs.identity import attack_identity
from runner.runs.untrained import untrained_flag

MEASURED = (
    *("example_id", "epsilon", "norm", "label", "clean_prediction", "adversarial_prediction"),
    *("clean_correct", "label_preserved", "perturbation_norm"),
)
"""The first columns of `rows.parquet`; the metrics, the harm under the attack's own draws, and the identity follow."""

COMPARED = ("model", "defense", "attribution", "attack", "seed")
"""Columns of a transfer's source that are copied to result.json."""


def rows_of(setup: Setup, chunks: Sequence[Chunk]) -> pd.DataFrame:
    """One row per (example, epsilon), ordered by epsilon and then by example; columns in a fixed order."""
    identity = setup.columns
    rows = pd.concat([chunk.frame() for chunk in chunks], ignore_index=True)
    rows = rows.sort_values(["epsilon", "position"], ignore_index=True).assign(**identity)
    last = [name for name in identity if name not in MEASURED]
    notes = sorted(name for name in map(str, rows) if name.startswith(NOTE) and name != "attack_harm")
    bound = sorted(name for name in map(str, rows) if name.split("_")[0] == "certificate")
    return rows[[*MEASURED, *setup.metrics, "attack_harm", *notes, *bound, *last]]


def images_of(setup: Setup, chunks: Sequence[Chunk]) -> dict[str, Tensor]:
    """Perturbed images (E, N, C, H, W) in the order of the rows, clean images (N, C, H, W), example ids and budgets."""
    return {
        "perturbed": torch.cat([torch.stack([step["images"] for step in chunk.steps]) for chunk in chunks], dim=1),
        "clean": torch.cat([chunk.images.cpu() for chunk in chunks]),
        "example_id": torch.cat([chunk.ids for chunk in chunks]),
        "epsilons": torch.tensor(setup.epsilons, dtype=torch.float64),
    }


def content_of(setup: Setup, chunks: Sequence[Chunk], rows: pd.DataFrame) -> dict[str, Any]:
    """The attack's part of `result.json`."""
    attacked = rows[rows.epsilon > 0]
    counts = map_counts([chunk.clean_maps for chunk in chunks], [chunk.steps for chunk in chunks], setup.epsilons)
    verdict = _verdict(setup, chunks)
    flags = number_flags(counts, rows, list(setup.metrics))
    found = _convergence(setup, chunks)
    flags["not_converged"] = not_converged(found)
    if setup.run is not None:  # nobody says how a network that a caller in Python gives was trained
        flags["untrained_network"] = untrained_flag(setup.config)
    return {
        "epsilons": list(setup.epsilons),
        "examples": int(rows.example_id.nunique()),
        "unharmed": {
            f"{epsilon:g}": float(part.perturbation_norm.eq(0).mean()) for epsilon, part in attacked.groupby("epsilon")
        },
        "kept_by": setup.attack.measure,
        "stochastic": setup.attribution.stochastic,
        "twin": _twin(setup, chunks),
        **as_result(found, setup.measure, _gradients(setup)),
        **_certificate(setup),
        **_source(setup, chunks),
        "degenerate_maps": counts,
        "undefined": undefined_counts(rows, list(setup.metrics)),
        **verdict,
        "flags": {**as_data(flags), **verdict.get("flags", {})},
        "metrics": {
            name: {"direction": metric.direction, "range": list(metric.range), "unit": metric.unit}
            for name, metric in setup.metrics.items()
        },
    }


def _twin(setup: Setup, chunks: Sequence[Chunk]) -> dict[str, float | None]:
    """How close the twin is to the model: its beta, and the mean cosine of their maps on the clean images."""
    if setup.beta is None:
        return {"beta": None, "map_cosine": None}
    return {"beta": setup.beta, "map_cosine": mean_cosine(torch.cat([chunk.twin_cosine() for chunk in chunks]))}


def _convergence(setup: Setup, chunks: Sequence[Chunk]) -> dict[float, Convergence]:
    """By budget; those without a search are left out."""
    steps = [chunk.steps for chunk in chunks]
    found = {epsilon: converged(steps, place, setup.measure) for place, epsilon in enumerate(setup.epsilons)}
    return {epsilon: one for epsilon, one in found.items() if one is not None}


def _gradients(setup: Setup) -> int:
    """Gradients of the map, or of the loss, for each candidate of the attack."""
    return int(getattr(setup.attack, "eot", 1)) if setup.attack.order > 0 else 0


def _certificate(setup: Setup) -> dict[str, Any]:
    if setup.certificate is None:
        return {}
    name, certificate = setup.config["certificate"]["name"], setup.certificate
    return {"certificate": {"name": name, "bounds": certificate.bounds, "confidence": certificate.confidence}}


def _verdict(setup: Setup, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """The attack's summary of the whole run."""
    if not isinstance(setup.attack, Reviewing):
        return {}
    names = [name for name in chunks[0].steps[0] if name.startswith(NOTE)]
    notes = {
        name.removeprefix(NOTE): torch.stack(
            [torch.cat([chunk.steps[place][name] for chunk in chunks]) for place in range(len(setup.epsilons))]
        )
        for name in names
    }
    return dict(setup.attack.verdict(setup.epsilons, notes))


def _source(setup: Setup, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """The part of result.json about the run that the images were taken from; empty without one.

    `map_cosine`: mean cosine of the clean maps, each for the class that its own model predicts; `same_prediction`: share of
    examples for which these classes agree; `found`: share for which a stored image does harm here and keeps the label.
    `white_box`: id of the source's attack on this model and attribution; `itself`: whether that is the source run.
    """
    source = setup.source
    if source is None:
        return {}
    white_box = {**setup.config, "attack": source.config["attack"]}
    alike = [_alike(source, chunk) for chunk in chunks]
    found = [chunk.best.found.double().cpu() for chunk in chunks if chunk.best is not None]
    content = {
        "run": source.identity,
        **{name: source.columns[name] for name in COMPARED},
        "white_box": digest(attack_identity(white_box)),
        "itself": digest(attack_identity({**white_box, "certificate": None})) == source.identity,
        "map_cosine": mean_cosine(torch.cat([cosine for cosine, _ in alike])),
        "same_prediction": float(torch.cat([same for _, same in alike]).mean()),
        "found": float(torch.cat(found).mean()),
    }
    return {"source": content}


def _alike(source: Setup, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """(N,) cosines of the clean maps, and whether the predictions agree."""
    maps, predictions = maps_of_its_own_classes(source, chunk.images, chunk.ids)
    cosine = map_cosines(maps, chunk.clean_maps)
    return cosine.cpu(), predictions.eq(chunk.problem.targets).double().cpu()
