"""An epoch between two of its batches: all that its rest depends on, beside the state of the model in training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Underway:
    """What the batches so far have added up to."""

    batches: int = 0
    """Batches done."""
    seconds: float = 0.0
    passes: tuple[int, int] = (0, 0)
    """Images that went forward, gradients that came back."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of each scalar, its share of the epoch's mean."""
    random: list[Tensor] = field(default_factory=list)
    """State of torch's own random numbers (dropout), of the CPU and then of the GPU if there is one."""

    def state(self) -> dict[str, Any]:
        """As tensors and plain data."""
        return dict(vars(self))

    def add(self, scalars: dict[str, Tensor], batches: int) -> None:
        """Count one batch of an epoch of so many."""
        self.batches += 1
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) / batches

    def note_random(self, device: torch.device) -> None:
        """Keep where the random numbers of this process stand."""
        self.random = [torch.get_rng_state()]
        if device.type == "cuda":
            self.random.append(torch.cuda.get_rng_state(device))

    def set_random(self, device: torch.device, seed: int) -> None:
        """Draw on from there; from `seed` at the beginning of an epoch."""
        if not self.random:
            torch.manual_seed(seed)
            return
        torch.set_rng_state(self.random[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(self.random[-1], device)
