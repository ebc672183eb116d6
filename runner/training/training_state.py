"""The state of an unfinished epoch: what the rest of it depends on, besides the model and its optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class EpochState:
    """Totals over the batches so far."""

    batches: int = 0
    """Batches done."""
    seconds: float = 0.0
    passes: tuple[int, int] = (0, 0)
    """Forward and backward passes, counted in images."""
    sums: dict[str, float] = field(default_factory=dict)
    """For each scalar, the sum so far divided by the number of batches in the epoch."""
    random: list[Tensor] = field(default_factory=list)
    """States of torch's random generators (for dropout): the CPU's, then the GPU's if one is used."""

    def state(self) -> dict[str, Any]:
        """The state as tensors and plain data."""
        return dict(vars(self))

    def add(self, scalars: dict[str, Tensor], batches: int) -> None:
        """Add the scalars of one batch, in an epoch of `batches`."""
        self.batches += 1
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) / batches

    def note_random(self, device: torch.device) -> None:
        """Save the states of this process's random generators."""
        self.random = [torch.get_rng_state()]
        if device.type == "cuda":
            self.random.append(torch.cuda.get_rng_state(device))

    def set_random(self, device: torch.device, seed: int) -> None:
        """Restore the saved random generators; at the beginning of an epoch, seed them with `seed`."""
        if not self.random:
            torch.manual_seed(seed)
            return
        torch.set_rng_state(self.random[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(self.random[-1], device)
