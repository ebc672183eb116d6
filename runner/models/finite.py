"""Finds what is not a number in a network: the first parameter or buffer with nan or inf."""

from __future__ import annotations

from itertools import chain

from torch import nn

from runner.core.errors import NotFiniteError


def not_finite(model: nn.Module) -> str | None:
    """The first parameter or buffer with nan or inf, in a few words; None if all are finite."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        bad = int(tensor.detach().isfinite().logical_not().sum())
        if bad:
            return f"{name} has {bad} of {tensor.numel()} entries that are nan or inf"
    return None


def require_finite(model: nn.Module, where: str) -> None:
    """Errors: `NotFiniteError`, one line with the tensor's name and `where` it was found."""
    if (found := not_finite(model)) is not None:
        raise NotFiniteError(f"{where}: {found}")
