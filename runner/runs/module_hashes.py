"""The code behind a run, read without importing it: the modules of the project that a module needs, and a hash of each.

Hashes are of the syntax tree, so comments, formatting and docstrings do not matter. Each module is read once per process: later
edits of the file do not change the code that the process runs.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path

from runner.core.locate import search_working_directory

DIGITS = 12
_OWN = __name__.split(".", maxsplit=1)[0]
VERSION = " (version)"
"""What follows the name of an installed package, which counts by its version."""
_STANDARD = Path(sysconfig.get_path("stdlib"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class _Source:
    """A module's hash, the modules of the project that it imports, and the installed packages that a user's module imports."""

    digest: str
    imports: frozenset[str]
    packages: frozenset[str]
    empty: bool


@dataclass(frozen=True)
class _Place:
    """Where a module is: its file, if it has one, and the folders of its submodules."""

    file: Path | None
    folders: tuple[Path, ...]


def module_of(target: str) -> str | None:
    """The module of a `_target_` such as `package.module.Class`; None if there is none."""
    search_working_directory()
    names = target.split(".")
    return next((name for end in range(len(names), 0, -1) if _file(name := ".".join(names[:end]))), None)


@cache
def hashes(roots: frozenset[str], counted: tuple[str, ...]) -> Mapping[str, str]:
    """Module name -> hash, for the roots and all modules that they need.

    In this package, only the modules in `counted` (`package.*`: a package and everything in it) are counted and followed; of other
    code, only what is not installed. An installed root counts with its own file only. A module's parent packages count if they
    contain code, since importing the module executes them, but their imports are not followed.
    """
    found = _reached(roots, counted)
    around = {above for name in found for above in _packages(name) if _counts(above, counted)}
    sources = {name: source for name in sorted(found | around) if (source := _source(name)) is not None}
    return {name: source.digest for name, source in sources.items() if not source.empty}


@cache
def versions(roots: frozenset[str], counted: tuple[str, ...]) -> Mapping[str, str]:
    """`package (version)` -> version, for the installed packages of the roots, and those that the user's modules import."""
    found = {name.split(".", maxsplit=1)[0] for name in roots if not _is_own(name)}
    for name in _reached(roots, counted):
        source = _source(name)
        found |= source.packages if source is not None else set()
    stated = {package: number for package in sorted(found) if (number := _version(package)) is not None}
    return {f"{package}{VERSION}": number for package, number in stated.items()}


def _version(package: str) -> str | None:
    """The version of the distribution that a package is from; None for one of the standard library."""
    if package in sys.stdlib_module_names:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        found = _distributions().get(package)
    return None if found is None else version(found[0])


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _reached(roots: Iterable[str], counted: tuple[str, ...]) -> set[str]:
    seen, waiting = set[str](), list(roots)
    while waiting:
        name = waiting.pop()
        if name in seen or not _counts(name, counted) or (source := _source(name)) is None:
            continue
        seen.add(name)
        waiting += source.imports
    return seen


def _counts(name: str, counted: tuple[str, ...]) -> bool:
    if name.split(".", maxsplit=1)[0] != _OWN:
        return True
    return name in counted or any(f"{package}.*" in counted for package in (name, *_packages(name)))


def _packages(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@cache
def _source(name: str) -> _Source | None:
    file = _file(name)
    if file is None:
        return None
    tree = ast.parse(file.read_bytes(), filename=str(file))
    text = _text(tree)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    followed = _imports(tree, package) if _is_own(name) else ()
    users = _is_own(name) and name.split(".", maxsplit=1)[0] != _OWN
    packages = frozenset(_packages_imported(tree)) if users else frozenset[str]()
    return _Source(digest, frozenset(followed), packages, empty=not _code(tree.body))


def _text(node: object) -> str:
    """A syntax tree as text; empty fields are left out, since they differ between Python versions."""
    if isinstance(node, list):
        return f"[{','.join(map(_text, _code(node)))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return f"{type(node).__name__}({','.join(f'{name}={_text(value)}' for name, value in fields)})"


def _code(statements: list[ast.AST] | list[ast.stmt]) -> list[ast.AST]:
    """The statements that do something: all but docstrings and other lone strings."""
    return [node for node in statements if not (isinstance(node, ast.Expr) and _is_text(node.value))]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    """The project's modules that are imported anywhere below a node, except under TYPE_CHECKING."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if _is_own(alias.name))
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package) if node.level else str(node.module)
        names = [f"{base}.{alias.name}" for alias in node.names] if _is_own(base) else []
        yield from (name if _file(name) else base for name in names)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package)


def _packages_imported(tree: ast.AST) -> Iterator[str]:
    """The packages that are imported anywhere in a module, but for those of the project."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
        yield from (name.split(".", maxsplit=1)[0] for name in names if not _is_own(name))


@cache
def _is_own(name: str) -> bool:
    """Whether a module belongs to this package or to one that is not installed."""
    top = name.split(".", maxsplit=1)[0]
    place = _place(top)
    files = [] if place is None else [*place.folders] if place.file is None else [place.file]
    installed = any(_INSTALLED & set(file.parts) or file.is_relative_to(_STANDARD) for file in files)
    return top == _OWN or (bool(files) and not installed)


def _file(name: str) -> Path | None:
    place = _place(name)
    return None if place is None else place.file


@cache
def _place(name: str) -> _Place | None:
    """Where a module is; its parent packages are searched, not imported."""
    parent, _, last = name.rpartition(".")
    if parent:
        above = _place(parent)
        return _inside(above.folders, last) if above is not None else None
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # ValueError: it is loaded, but without a spec
        return None
    if spec is None:
        return None
    file = Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
    return _Place(file, tuple(map(Path, spec.submodule_search_locations or ())))


def _inside(folders: Sequence[Path], name: str) -> _Place | None:
    """A module or package in the folders of a package; a package without `__init__.py` may be spread over several."""
    for folder in folders:
        if (file := folder / name / "__init__.py").is_file():
            return _Place(file, (folder / name,))
        if (file := folder / f"{name}.py").is_file():
            return _Place(file, ())
    spread = tuple(folder / name for folder in folders if (folder / name).is_dir())
    return _Place(None, spread) if spread else None
