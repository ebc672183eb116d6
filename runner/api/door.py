"""What a caller hands in, checked before any work: shapes, types, ranges, values that are not finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runner.core.errors import ConfigError, require
from runner.datasets.base import Device, Indices, Loaded
from runner.runs import logits

Array = Tensor | np.ndarray[Any, Any]


@dataclass(frozen=True)
class Given:
    """Examples that a caller has in memory: images (N, C, H, W) in [0, 1], labels (N,), ids (N,) that key the random numbers."""

    images: Tensor
    labels: Tensor
    ids: Tensor

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.images)

    def batch(self, indices: Indices, device: Device) -> Loaded:
        """The examples at these positions."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[index].to(device), self.labels[index].to(device), self.ids[index].to(device)


def tensor_of(value: Any, key: str) -> Tensor:
    """A detached tensor on the CPU. Errors: `ConfigError` for anything but a tensor or an array of numbers."""
    if isinstance(value, Tensor):
        held = value.layout is torch.strided and not value.is_meta
        require(held, key, f"a {'meta' if value.is_meta else 'sparse'} tensor", "one that holds all its values")
        return value.detach().cpu()
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"{key}: must be a tensor or an array of numbers, not {type(value).__name__}") from None


def images_of(value: Array, dtype: torch.dtype, key: str = "images") -> Tensor:
    """(N, C, H, W) in [0, 1] of the model's `dtype`; bytes are divided by 255, as the jobs do. Errors: `ConfigError`."""
    images = tensor_of(value, key)
    shape = list(images.shape)
    require(images.dim() == 4 and images.numel() > 0, key, f"of shape {shape}", "of shape (N, C, H, W), with N above 0")
    last = shape[3] in (1, 3) and shape[1] not in (1, 3)
    require(not last, key, f"of shape {shape}", "of shape (N, C, H, W): channels come before height and width")
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255.0).to(dtype)
    require(images.is_floating_point(), key, f"of type {images.dtype}", "of a floating type, or uint8")
    images = images.to(dtype)
    require(bool(images.isfinite().all()), key, "with NaN or inf", "finite")
    low, high = float(images.min()), float(images.max())
    allowed = "in [0, 1]: a model normalises inside itself"
    require(low >= 0.0 and high <= 1.0, key, f"from {low:g} to {high:g}", allowed)
    return images


def labels_of(value: Array | None, images: Tensor, classes: int, key: str = "labels") -> Tensor | None:
    """(N,) int64 class numbers, or None. Errors: `ConfigError` for another length or type, or a class that does not exist."""
    if value is None:
        return None
    labels = tensor_of(value, key)
    require(tuple(labels.shape) == (len(images),), key, f"of shape {list(labels.shape)}", f"of shape [{len(images)}]")
    whole = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
    require(whole, key, f"of type {labels.dtype}", "whole numbers")
    low, high = int(labels.min()), int(labels.max())
    require(low >= 0 and high < classes, key, f"from {low} to {high}", f"classes from 0 to {classes - 1}")
    return labels.to(torch.int64)


def ids_of(value: Array | None, images: Tensor) -> Tensor:
    """(N,) int64: the numbers given, or 0 to N - 1. Errors: `ConfigError` for others."""
    ids = torch.arange(len(images)) if value is None else tensor_of(value, "ids")
    good = tuple(ids.shape) == (len(images),) and ids.dtype in (torch.int64, torch.int32)
    require(
        good and len(ids.unique()) == len(ids),
        "ids",
        f"{list(ids.shape)} {ids.dtype}",
        "different whole numbers, one an image",
    )
    return ids.to(torch.int64)


def classes_of(model: nn.Module, image: Tensor) -> int:
    """How many classes the model knows, asked with one image (1, C, H, W). Errors: `ConfigError`, as `logits.classes_of`."""
    try:
        return logits.classes_of(model, image, "model")
    except ConfigError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"images of shape (N, {', '.join(map(str, image.shape[1:]))}): the model does not take them ({reason})"
        ) from None


def whole_number(value: Any, key: str, least: int = 0) -> int:
    """A whole number, numpy's too. Errors: `ConfigError` for anything else, and below `least`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    require(whole and bool(value >= least), key, value, f"a whole number of at least {least}")
    return int(value)
