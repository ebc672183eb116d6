"""Attacks on the maps of a model, and intervals over several models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from runner import stats
from runner.api.borrowed import borrowed, dtype_of
from runner.api.door import Array, Given, classes_of, ids_of, images_of, labels_of, whole_number
from runner.api.maps import on_training_images
from runner.api.options import MEASURED, Metrics
from runner.api.search import Asked, parts_of
from runner.attacking.chunk import Chunk
from runner.attacking.convergence import Until
from runner.attacking.gradient_check import gradient_flags
from runner.attacking.memory_fit import fitted
from runner.attacking.results import content_of, rows_of
from runner.attacking.results import images_of as perturbed_of
from runner.attacking.search import moves
from runner.attacking.setup import Setup
from runner.core.errors import require
from runner.core.flags import as_data, raised, warn
from runner.core.progress import progress
from runner.core.types import Attribution, Budget
from runner.runs.parts import Parts


@dataclass(frozen=True)
class AttackResult:
    """The worst images that an attack found at each budget, and what they do to the maps."""

    rows: pd.DataFrame
    """One row per (example, epsilon), epsilon 0 included, with the columns of rows.parquet that apply."""
    images: Tensor = field(repr=False)
    """(E, N, C, H, W), in the order of the rows; the first are the clean images."""
    flags: dict[str, dict[str, Any]] = field(repr=False)
    """Reasons not to trust the numbers, as in result.json; those with `tripped` were logged as warnings."""
    metrics: tuple[str, ...] = ()
    """The columns of `rows` that are metrics."""


def attack(  # noqa: PLR0913  (one parameter an input)
    model: nn.Module,
    images: Array,
    labels: Array | None = None,
    attribution: str | Attribution | Callable[..., Tensor] = "saliency",
    attack: str | Any = "topk_overlap",
    *,
    epsilons: Sequence[float | int | str] = (0.25, 0.5, 1.0),
    norm: Budget = "l2",
    metrics: Metrics | None = None,
    k: int | None = None,
    reduction: str = "abs_sum",
    common_noise: bool = False,
    seed: int = 0,
    attack_seed: int = 0,
    ids: Array | None = None,
    training_images: Array | None = None,
    device: str | torch.device | None = None,
    attribution_options: Mapping[str, Any] | None = None,
    **attack_options: Any,
) -> AttackResult:
    """Attack the maps of a model over budgets, as the job `attack` does: the predicted class is kept.

    `images` (N, C, H, W) in [0, 1]; `labels` (N,), without which rows have no `label`; `attribution` and `attack`: names with
    their options as in conf/, or objects, and a function (model, images, targets) for the attribution; `k`: top pixels, by default
    a tenth; `ids` (N,): the examples' numbers, which key all random draws with the two seeds, by default 0 to N - 1. Another
    `device` than the model's gets a copy. Errors: `ConfigError`, before any work; `NoGradientError` for an attack that could
    only walk at random.
    """
    asked = Asked(
        attribution=attribution,
        attack=attack,
        epsilons=epsilons,
        norm=norm,
        metrics=MEASURED if metrics is None else metrics,
        k=k,
        reduction=reduction,
        common_noise=common_noise,
        seed=whole_number(seed, "seed"),
        attack_seed=whole_number(attack_seed, "attack_seed"),
        attribution_options=dict(attribution_options or {}),
        attack_options=attack_options,
    )
    with borrowed(model, device) as (lent, place):
        given = images_of(images, dtype_of(lent))
        known = labels_of(labels, given, classes_of(lent, given[:1].to(place)))
        examples = Given(given, torch.full((len(given),), -1) if known is None else known, ids_of(ids, given))
        parts = parts_of(asked, lent, given[:1].to(place))
        setup = _setup(asked, parts, lent, place, examples, training_images)
        return _searched(setup, parts.config["attack"]["chunk"], known is not None)


def _setup(
    asked: Asked, parts: Parts, model: nn.Module, place: torch.device, examples: Given, training_images: Array | None
) -> Setup:
    """What the job `attack` would make of the same choices."""
    method = on_training_images(parts.attribution, training_images, examples.images, place)
    return Setup(
        model=model,
        attribution=method,
        attack=parts.attack,
        explain=parts.explainer(method),
        reduce=parts.reducer(),
        metrics=parts.metrics,
        epsilons=parts.grid.epsilons(),
        norm=parts.grid.norm,
        test=examples,
        device=place,
        seed=asked.seed,
        attack_seed=asked.attack_seed,
        common_noise=asked.common_noise,
        keeps_images=True,
        until=Until.of(parts.config["attack"]),
        columns={"model": type(model).__name__, **asked.names, "seed": asked.seed, "norm": asked.norm},
    )


def evaluate(
    models: Sequence[nn.Module],
    images: Array,
    labels: Array | None = None,
    *,
    seeds: Sequence[int] | None = None,
    confidence: float = 0.95,
    **options: Any,
) -> pd.DataFrame:
    """Attack several trainings of one model: a row per (epsilon, metric), with mean and Student-t interval over the models.

    `seeds`: one number a model, by default 0, 1, ...; `options`: those of `attack`. Columns as in summary.parquet; `attrs["flags"]`
    names the raised flags with the seeds that raised them. Errors: those of `attack`.
    """
    require("seed" not in options, "seed", options.get("seed"), "given as seeds=[...], one number a model")
    listed = [models] if isinstance(models, nn.Module) else list(models)
    numbers = list(range(len(listed))) if seeds is None else list(seeds)
    require(len(listed) > 0, "models", "[]", "at least one model")
    for one in listed:
        require(isinstance(one, nn.Module), "models", f"with {type(one).__name__}", "a list of torch.nn.Module")
    require(len(set(numbers)) == len(listed), "seeds", numbers, f"{len(listed)} different numbers, one a model")
    require(0.0 < confidence < 1.0, "confidence", confidence, "between 0 and 1")
    results = [attack(one, images, labels, seed=seed, **options) for one, seed in zip(listed, numbers, strict=True)]
    rows = pd.concat([result.rows for result in results], ignore_index=True)
    name = "+".join(dict.fromkeys(rows["model"]))
    table = stats.summarise(rows.assign(model=name), list(results[0].metrics), confidence)
    for seed, result in zip(numbers, results, strict=True):
        for flag in raised(result.flags):
            table.attrs.setdefault("flags", {}).setdefault(flag, []).append(seed)
    return table


def _searched(setup: Setup, size: int, labelled: bool) -> AttackResult:
    """The search over all chunks of at most `size` examples and all budgets, and its rows, images and flags."""
    fit = fitted(setup, size)
    setup = fit.applied(setup)
    chunks = [Chunk.new(setup, part) for part in torch.arange(len(setup.test)).split(fit.chunk)]
    flags = as_data(gradient_flags(setup.attack, chunks[0].problem, max(setup.epsilons), setup.norm))
    title = f"{setup.columns['attack']} on {setup.columns['attribution']}"
    with progress(title, len(chunks) * len(setup.epsilons)) as advance:
        for _, epsilon, new in moves(chunks):
            if new:
                advance(f"epsilon {epsilon:g}")
    rows = rows_of(setup, chunks)
    flags |= content_of(setup, chunks, rows).get("flags", {})
    warn(flags)
    unknown = [] if labelled else ["label", "clean_correct"]
    return AttackResult(
        rows.drop(columns=unknown), perturbed_of(setup, chunks)["perturbed"], flags, tuple(setup.metrics)
    )
