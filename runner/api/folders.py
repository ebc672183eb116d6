"""Images of a folder or an archive, read as the jobs read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from runner.api.options import described, prefixed
from runner.core.build import build
from runner.core.errors import ConfigError
from runner.datasets.base import Dataset
from runner.runs.parts import LABELS

Part = Literal["train", "test"]


def load_images(folder: str | Path, split: Part = "test", **options: Any) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (N, C, H, W) float32 in [0, 1], labels (N,) int64 and class names of `dataset=image_folder dataset.root=FOLDER`.

    `options`: those of conf/dataset/image_folder.yaml (`size=64, test_size=50, channels=1`). The examples come in the jobs' order:
    every prefix has the classes in their proportions. Nothing is cached unless `cache` names a folder. Errors: `ConfigError`.
    """
    if split not in get_args(Part):
        raise ConfigError.choice("split", split, get_args(Part))
    settings = {"root": str(folder), "cache": None, **options}
    node = described({"dataset": "image_folder"}, prefixed("dataset", settings))["dataset"]
    data: Dataset = build({key: value for key, value in node.items() if key not in LABELS["dataset"]}, "dataset")
    part = data.test if split == "test" else data.training_split()
    images, labels, _ = part.batch(range(len(part)), "cpu")
    return images, labels, data.classes
