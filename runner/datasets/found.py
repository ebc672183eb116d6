"""What the config of an image folder leaves to the images: name, classes, shape, and which images they are.

The YAML refers to these functions (`${found_by:...}`), so they are asked only for what a user does not state. A tree is listed
once a process.
"""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache
from pathlib import Path

from omegaconf import DictConfig

from runner.core.errors import ConfigError
from runner.datasets.pictures import list_pictures, locate, read_pictures
from runner.datasets.synsets import read_synsets
from runner.datasets.tree import Tree, arrange, stray_class
from runner.datasets.view import opened

_log = logging.getLogger(__name__)


def name(dataset: DictConfig) -> str:
    """The name of the folder, or of the archive without its suffixes."""
    source = _source(dataset)
    plain = source.name.split(".tar")[0].removesuffix(".tgz") if source.is_file() else source.name
    return plain or "images"


def content(dataset: DictConfig) -> str | None:
    """A digest of the names and sizes of all images where `name` is found too: folders of one name are not one dataset."""
    stated = "found_by" not in str(dataset._get_node("name"))
    return None if stated else _listed(_source(dataset))[1]


def classes(dataset: DictConfig) -> int:
    """The number of class folders, or of lines of the file `synsets`. Errors: `ConfigError` for fewer than two."""
    if dataset.synsets is not None:
        return len(read_synsets(dataset.synsets, Path(dataset.root).expanduser())[1])
    source = _source(dataset)
    tree = _listed(source)[0]
    found = tree.classes
    if (stray := stray_class(tree)) is not None:
        raise ConfigError(
            f"dataset.root={source}: {stray}, and would be a class; move it away, or state dataset.classes={len(found)}"
        )
    if len(found) < 2:
        raise ConfigError(
            f"dataset.root={source}: must be a tree of two or more class folders; it holds {found[0]} alone"
        )
    return len(found)


def height(dataset: DictConfig) -> int:
    """`size`, or that of the first image where `size` is null."""
    return _first_size(_source(dataset))[1] if dataset.size is None else int(dataset.size)


def width(dataset: DictConfig) -> int:
    """`size`, or that of the first image where `size` is null."""
    return _first_size(_source(dataset))[0] if dataset.size is None else int(dataset.size)


def _source(dataset: DictConfig) -> Path:
    return locate(str(dataset.root), dataset.folder, dataset.archive).resolve()


@lru_cache(maxsize=8)
def _listed(source: Path) -> tuple[Tree, str]:
    places = list_pictures(source)
    tree = arrange(places, source)
    sizes = [(source / name).stat().st_size if source.is_dir() else place for name, place in places.items()]
    digest = hashlib.sha256(repr(list(zip(places, sizes, strict=True))).encode()).hexdigest()[:16]
    shown = ", ".join(tree.classes[:5]) + (", ..." if len(tree.classes) > 5 else "")
    _log.info("found in %s: %d images of %d classes (%s)", source, len(tree.names), len(tree.classes), shown)
    return tree, digest


@lru_cache(maxsize=8)
def _first_size(source: Path) -> tuple[int, int]:
    """(width, height)."""
    first = min(_listed(source)[0].names)
    for _, file in read_pictures(source, {first: list_pictures(source)[first]}):
        return opened(file, first, lambda image: image.size)
    raise AssertionError(first)
