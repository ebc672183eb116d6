"""Calls torchvision's loaders and turns their failures into one line that says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from runner.core.errors import ConfigError
from runner.core.vision import torchvision


@dataclass(frozen=True)
class Source:
    """A class of `torchvision.datasets`, its name in messages, and the files that the root must contain."""

    loader: str
    title: str
    files: str

    def load(self, root: str, download: bool, *splits: dict[str, Any]) -> list[Any]:
        """The loader's dataset for the keywords of each split. Errors: `ConfigError` when files are missing."""
        base, loader = Path(root).expanduser(), getattr(torchvision().datasets, self.loader)
        try:
            if not download:
                return [loader(root=str(base), download=False, **split) for split in splits]
            base.mkdir(parents=True, exist_ok=True)
            with FileLock(base / f".{self.loader}.download.lock"):
                return [loader(root=str(base), download=True, **split) for split in splits]
        except Exception as error:  # a broken file raises anything in csv, scipy and pickle
            # the rest is advice about torchvision's own arguments
            told = (str(error).splitlines() or [""])[0].split(". ")[0]
            reason = told if isinstance(error, RuntimeError | OSError) else f"{type(error).__name__}: {told}"
            raise ConfigError(self._advice(root, download, reason)) from error

    def _advice(self, root: str, download: bool, reason: str) -> str:
        if download:
            return f"dataset.download=true: no {self.title} ({reason}); put {self.files} in dataset.root={root} by hand"
        return (
            f"dataset.root={root}: no usable {self.title} there ({reason}); "
            f"set dataset.download=true, or put {self.files} there"
        )
