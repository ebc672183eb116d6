"""Checks whether a certificate applies to an attribution, a norm and a reduction of maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Any

from runner.core.errors import ConfigError, require
from runner.core.grid import exact

CHANNEL_SUMS = ("abs_sum", "sum_abs", "sum")
REDUCTIONS = (*CHANNEL_SUMS, "abs_max")


def require_kind(certificate: str, attribution: object, kind: str, *needed: str) -> None:
    """Reject any attribution but the class called `kind`, with the fields `needed`.

    By name, since certificates do not import attributions, and other attributions have the same fields without the theorem.
    """
    found = type(attribution).__name__
    if found != kind or not is_dataclass(attribution) or any(not hasattr(attribution, name) for name in needed):
        raise ConfigError(f"certificate={certificate}: says nothing about the attribution {found}; it is about {kind}")


def require_constant_noise(attribution: Any) -> None:
    """Reject noise whose size depends on the image, and maps multiplied by the image: the smoothing must be constant."""
    unit = getattr(attribution, "relative_to", "unit")
    require(unit == "unit", "attribution.relative_to", unit, "unit: a certificate needs noise of one size everywhere")
    factor = getattr(attribution, "multiply_by_input", False)
    require(
        factor is False, "attribution.multiply_by_input", factor, "false: the certificate is about the mean gradient"
    )


def require_norm(norm: str) -> None:
    """Reject balls that are not l2."""
    require(norm == "l2", "epsilon.norm", norm, "l2: the certificate is about l2 balls")


def require_reduction(key: str, value: str, reduction: str, allowed: Iterable[str] = REDUCTIONS) -> None:
    """Reject a reduction that differs from that of the maps, or that the certificate cannot handle."""
    if reduction not in allowed:
        raise ConfigError.choice("metrics.reduction", reduction, allowed)
    require(value == reduction, key, value, f"metrics.reduction, which is {reduction}")


def require_share(key: str, value: float, low: float = 0.0) -> None:
    """Reject values outside the open interval from `low` to 1."""
    require(low < value < 1.0, key, value, f"above {low:g} and below 1")


def size_of(attribution: Any, name: str) -> float:
    """The noise parameter `name` of an attribution as a number. Errors: `ConfigError` when it is not above 0."""
    value = getattr(attribution, name)
    size = float(exact(value, f"attribution.{name}"))
    require(size > 0, f"attribution.{name}", value, "above 0: without noise there is nothing to certify")
    return size
