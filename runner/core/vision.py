"""Imports torchvision even with a CPU build of torch, where the plain import fails: PyPI's wheel needs CUDA operators."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any


@cache
def torchvision() -> ModuleType:
    """The torchvision module. Datasets, transforms and models work; `ops.nms` and `torchvision.io` may not (use PIL)."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _declare_operators()
    return importlib.import_module("torchvision")


@cache
def _declare_operators() -> object:
    """Declare the operators that torchvision's import refers to; they exist as long as the returned library object."""
    import torch

    make: Any = torch.library.Library
    library = make("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
