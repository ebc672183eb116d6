"""Which interception of torch's functions is active, and how code in a hook of a network keeps out of it.

A softplus twin intercepts the activations of its network (`runner.models.soft_activations`). A hook that runs meanwhile, such as
a rule of an attribution, is no part of the network, and its own `clamp` and `relu` must stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ACTIVE: ContextVar[object | None] = ContextVar("active interception", default=None)


@contextmanager
def only(interception: object | None) -> Iterator[None]:
    """Meanwhile, this interception is the active one; None for none."""
    token = ACTIVE.set(interception)
    try:
        yield
    finally:
        ACTIVE.reset(token)
