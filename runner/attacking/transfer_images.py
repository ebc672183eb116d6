"""The images that a transfer attack takes from another run, and that run's maps for comparison."""

from __future__ import annotations

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from runner.attacking.setup import Setup
from runner.core.errors import StoreError
from runner.runs.run import IMAGES
from runner.store.torn import torn


def stored_images(source: Setup, epsilon: float, positions: Tensor, clean: Tensor) -> Tensor:
    """Perturbed images (N, C, H, W) stored by a run, for the examples at consecutive `positions` of the evaluated order.

    Errors: `StoreError` when the file is damaged or has other examples than `clean` (N, C, H, W).
    """
    assert source.run is not None
    file = source.run.folder / IMAGES
    first, last = int(positions[0]), int(positions[-1]) + 1
    try:
        with safe_open(file, framework="pt") as handle:
            step = source.epsilons.index(epsilon)
            found: Tensor = handle.get_slice("perturbed")[step : step + 1, first:last][0]
            same = torch.equal(handle.get_slice("clean")[first:last], clean.cpu())
    except (SafetensorError, OSError) as error:
        raise torn(file, error) from None
    if not same:
        raise StoreError(f"{file}: holds other examples than this run; delete the folder to rerun it")
    return found.to(clean.device)


def maps_of_its_own_classes(source: Setup, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, H, W) of the classes that a run's model predicts for clean images, and those classes (N,)."""
    with torch.no_grad():
        predictions: Tensor = source.model(images).argmax(dim=1)
    return source.explain(source.model, images, predictions, source.keys(ids, "evaluate-clean")).detach(), predictions
