"""A split too large for memory: threads decode its files when a batch needs them (PIL releases the GIL)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runner.datasets.base import Device, Indices, Loaded, to_device
from runner.datasets.stratify import stratified_order
from runner.datasets.view import Pixels, View


@dataclass(frozen=True)
class LazySplit:
    """Image files under `root` by relative name, labels (N,) and ids (N,), seen through `view`, which has a size."""

    root: Path
    names: tuple[str, ...]
    labels: Tensor
    ids: Tensor
    view: View
    workers: int = 4

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        assert self.view.size is not None
        return self.view.channels, self.view.size, self.view.size

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.names)

    def take(self, size: int | None, seed: int) -> LazySplit:
        """The first `size` examples of the stratified order of `seed`."""
        order = stratified_order(self.labels, self.ids, seed)[:size]
        names = tuple(self.names[position] for position in order.tolist())
        return LazySplit(self.root, names, self.labels[order], self.ids[order], self.view, self.workers)

    def batch(self, indices: Indices, device: Device) -> Loaded:
        """Loaded by position."""
        return next(self.batches([indices], device))

    def batches(self, plan: Iterable[Indices], device: Device) -> Iterator[Loaded]:
        """Loaded by position, one batch read ahead of the one in use."""
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            ahead: tuple[Tensor, list[Future[Pixels]]] | None = None
            for indices in plan:
                index = torch.as_tensor(indices, dtype=torch.int64)
                current, ahead = ahead, (index, [pool.submit(self._decode, position) for position in index.tolist()])
                if current is not None:
                    yield self._collect(*current, device)
            if ahead is not None:
                yield self._collect(*ahead, device)

    def _decode(self, position: int) -> Pixels:
        name = self.names[position]
        return self.view.decode(self.root / name, name)

    def _collect(self, index: Tensor, pending: list[Future[Pixels]], device: Device) -> Loaded:
        pixels = [future.result() for future in pending]
        images = torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0, *self.shape, dtype=torch.uint8)
        return to_device(images, self.labels[index], self.ids[index], device)
