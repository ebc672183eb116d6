"""How far a search is from its end: the harm that it had found after parts of its iterates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Parts of a search's iterates at which its harm is recorded: the last two say what the last doubling of the work brought."""


@dataclass
class Trace:
    """The largest harm so far of one search, candidate by candidate, and of searches that ran beside each other.

    `start`: (N,) the harm that the search began with.
    """

    start: Tensor
    _found: list[Tensor] = field(default_factory=list)
    _parts: dict[str, Trace] = field(default_factory=dict)

    def see(self, kept: Tensor, harm: Tensor) -> None:
        """One more candidate per example: whether it may be kept (N,), and its harm (N,)."""
        last = self._found[-1] if self._found else self.start
        counts = kept & harm.isfinite() & (harm > last)
        self._found.append(torch.where(counts, harm, last))

    def beside(self, name: str, start: Tensor) -> Trace:
        """The trace of a part of the search, which a longer search would give more candidates too, as all other parts."""
        return self._parts.setdefault(name, Trace(start))

    def at(self, share: float) -> Tensor:
        """(N,) the largest harm after this share of the candidates, of those of every part if there are parts."""
        place = int(share * len(self._found))
        own = self._found[place - 1] if place else self.start
        return _largest([own, *(part.at(share) for part in self._parts.values())])

    @property
    def candidates(self) -> int:
        """How many candidates each example had."""
        return len(self._found) + sum(part.candidates for part in self._parts.values())


def _largest(values: Iterable[Tensor]) -> Tensor:
    """(N,) elementwise maxima; nan only where all are nan."""
    stacked = torch.stack(list(values))
    most = stacked.nan_to_num(nan=-torch.inf, neginf=-torch.inf).amax(dim=0)
    return most.masked_fill(stacked.isnan().all(dim=0), torch.nan)
