"""Maps of images, and metrics between two stacks of maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from runner.api.attributions import as_attribution, checked, with_training_images
from runner.api.borrowed import borrowed, dtype_of
from runner.api.door import Array, classes_of, ids_of, images_of, labels_of, tensor_of, whole_number
from runner.api.options import MEASURED, Metrics, chosen_metrics, described, no_options, prefixed
from runner.attacking.setup import attack_keys
from runner.core.errors import ConfigError, require
from runner.core.progress import progress
from runner.core.types import Attribution, ContextualMetric
from runner.metrics.reduction import reduce
from runner.runs.parts import Parts

CHUNK = 50
"""Images explained in one pass, as many as an attack takes."""


def explain(  # noqa: PLR0913  (one parameter an input)
    model: nn.Module,
    images: Array,
    targets: Array | None = None,
    attribution: str | Attribution | Callable[..., Tensor] = "saliency",
    *,
    seed: int = 0,
    attack_seed: int = 0,
    ids: Array | None = None,
    training_images: Array | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> Tensor:
    """Maps (N, C, H, W) of images (N, C, H, W) in [0, 1], on the CPU; the clean maps of an attack with the same seeds and ids.

    `targets` (N,): the classes to explain, by default the predicted ones. `attribution`: a name with its `options` as in
    conf/attribution, a function (model, images, targets), or an object. `training_images`: for expected gradients. Errors:
    `ConfigError`.
    """
    parts = attribution_parts(attribution, options)
    with borrowed(model, device) as (lent, place):
        given = images_of(images, dtype_of(lent))
        classes = classes_of(lent, given[:1].to(place))
        chosen = labels_of(targets, given, classes, "targets")
        method = on_training_images(parts.attribution, training_images, given, place)
        seeds = whole_number(seed, "seed"), whole_number(attack_seed, "attack_seed")
        keys = attack_keys(*seeds, ids_of(ids, given), "evaluate-clean")
        found = []
        with progress("explaining", len(given)) as advance:
            for part in torch.arange(len(given)).split(CHUNK):
                batch = given[part].to(place)
                aims = _predicted(lent, batch, part) if chosen is None else chosen[part].to(place)
                found.append(checked(method(lent, batch, aims, keys[part].to(place)), batch).detach().cpu())
                for _ in part:
                    advance("")
    return torch.cat(found)


def compare(
    maps: Array,
    others: Array,
    metrics: Metrics | None = None,
    *,
    k: int | None = None,
    reduction: str = "abs_sum",
) -> pd.DataFrame:
    """One row per example and one column per metric, between maps (N, C, H, W) or (N, H, W) and `others` of their shape.

    `k`: top pixels, by default a tenth of them. `reduction`: how channels become one value. A map with NaN or inf has NaN.
    Errors: `ConfigError`.
    """
    first, second = _stack(maps, "maps"), _stack(others, "others")
    require(first.shape == second.shape, "others", f"of shape {list(second.shape)}", f"of shape {list(first.shape)}")
    dtype = torch.promote_types(first.dtype, second.dtype)
    reference, other = (_reduced(stack.to(dtype), reduction) for stack in (first, second))
    height, width = reference.shape[1:]
    asked = MEASURED if metrics is None else metrics
    named, settings, objects = chosen_metrics(asked)
    config = described({"metrics": named}, settings | grid((1, height, width), k) | {"metrics.reduction": reduction})
    finite = (reference.isfinite() & other.isfinite()).flatten(1).all(dim=1)
    columns = {}
    for name, metric in (objects | (Parts(config, {}).metrics if named else {})).items():
        if isinstance(metric, ContextualMetric):
            raise ConfigError(f"metrics={name}: needs the network and its images; call attack(..., metrics=[...])")
        columns[name] = metric(reference, other).double().where(finite, float("nan")).numpy()
    wanted = [asked] if isinstance(asked, str) else list(asked)
    return pd.DataFrame({name: columns[name] for name in wanted})


def attribution_parts(attribution: Any, options: dict[str, Any]) -> Parts:
    """The attribution by name with its options, or as it is given."""
    if isinstance(attribution, str):
        return Parts(described({"attribution": attribution}, prefixed("attribution", options)), {})
    no_options("attribution", options)
    return Parts(described({}, {}), {}, {"attribution": as_attribution(attribution)})


def on_training_images(
    attribution: Attribution, training_images: Array | None, images: Tensor, device: torch.device
) -> Attribution:
    """The attribution with the training images that it compares with, of the shape of the images."""
    if training_images is None:
        return with_training_images(attribution, None)
    known = images_of(training_images, images.dtype, "training_images")
    shape, wanted = list(known.shape[1:]), list(images.shape[1:])
    require(shape == wanted, "training_images", f"of shape {list(known.shape)}", f"images of shape {wanted}")
    return with_training_images(attribution, known.to(device))


def grid(shape: tuple[int, int, int], k: int | None) -> dict[str, Any]:
    """Settings of the shape of the images, and of the number of top pixels: `k`, or a tenth. Errors: `ConfigError`."""
    pixels = shape[1] * shape[2]
    chosen = max(1, pixels // 10) if k is None else whole_number(k, "k", 1)
    require(chosen <= pixels, "k", chosen, f"at most the {pixels} pixels of a map")
    return {"dataset.shape": list(shape), "metrics.k": chosen}


def _stack(maps: Array, key: str) -> Tensor:
    stack = tensor_of(maps, key)
    shape = list(stack.shape)
    require(stack.dim() in (3, 4) and stack.numel() > 0, key, f"of shape {shape}", "of shape (N, C, H, W) or (N, H, W)")
    require(stack.dtype in (torch.float32, torch.float64), key, f"of type {stack.dtype}", "of type float32 or float64")
    return stack


def _reduced(maps: Tensor, how: str) -> Tensor:
    return reduce(maps if maps.dim() == 4 else maps.unsqueeze(1), how)


def _predicted(model: nn.Module, images: Tensor, places: Tensor) -> Tensor:
    """The predicted classes (N,). Errors: `ConfigError` naming the first image whose logits are not finite."""
    with torch.no_grad():
        logits: Tensor = model(images)
    many = len(logits) == len(images)
    require(
        many, "model", f"with output {list(logits.shape)} for {len(images)} images", "with logits (N, K) for N images"
    )
    bad = places[~logits.isfinite().all(dim=1).cpu()].tolist()
    require(
        not bad,
        "model",
        f"with logits that are NaN or inf for image {(bad or [0])[0]}",
        "finite: give targets, or leave it out",
    )
    return logits.argmax(dim=1)
