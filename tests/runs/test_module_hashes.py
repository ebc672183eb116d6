"""Which modules a module needs, and what of their text counts; nothing here is imported."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.runs import module_hashes as modules
from runner.runs.module_hashes import hashes, module_of

FILES = {
    "mine/__init__.py": "from mine.other import other",
    "mine/attack.py": "import math\nimport torch\nfrom mine import helper\nfrom . import near\n",
    "mine/helper.py": "def f(x):\n    from mine.late import late\n    return late(x)\n",
    "mine/near.py": "from .nowhere import gone\n",
    "mine/late.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mine import unread\nlate = abs\n",
    "mine/other.py": "import beside.deep.down as d\nother = 1\n",
    "mine/unread.py": "raise SystemError\n",
    "beside/deep/down.py": "from beside.ring import *\n",
    "beside/ring.py": "import beside.deep.down\nfrom mine import attack\n",
    "empty/__init__.py": '"""Nothing."""\n',
    "empty/leaf.py": "x = 1\n",
}


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """Reads every file anew, as another process would."""

    def call() -> None:
        for known in (modules.hashes, modules._source, modules._is_own, modules._place):
            known.cache_clear()

    call()
    yield call
    call()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def needed(*roots: str, counted: tuple[str, ...] = ()) -> set[str]:
    return set(hashes(frozenset(roots), counted))


def test_imports_are_followed_wherever_they_stand_and_nothing_is_imported(project: Path) -> None:
    assert needed("mine.attack") == {"mine", "mine.attack", "mine.helper", "mine.near", "mine.late"}
    assert needed("mine.other") == {
        "mine",
        *(f"mine.{name}" for name in ("other", "attack", "helper", "near", "late")),
    } | {
        "beside.deep.down",
        "beside.ring",
    }
    assert needed("empty.leaf") == {"empty.leaf"}
    assert not {"mine", "beside", "empty"} & set(sys.modules)


def test_a_package_is_followed_only_where_it_is_named(project: Path) -> None:
    assert "beside.ring" in needed("mine")
    assert "beside.ring" not in needed("mine.attack")


def test_of_this_package_only_what_is_named_is_counted_and_followed(project: Path, monkeypatch) -> None:
    everything = needed("mine.other")
    monkeypatch.setattr(modules, "_OWN", "mine")
    named = ("mine.attack", "mine.near", "mine.late")
    assert needed("mine.attack", counted=named) == {"mine.attack", "mine.near"}, "late is needed by helper alone"
    assert needed("mine.other", counted=("mine.other",)) == {"mine.other", "beside.deep.down", "beside.ring"}
    assert needed("mine.other", counted=("mine", "mine.*")) == everything
    assert needed("mine.attack") == set()


def test_the_module_of_a_target(project: Path) -> None:
    assert module_of("mine.attack.Attack") == "mine.attack"
    assert module_of("mine.attack.Attack.make") == "mine.attack"
    assert module_of("mine.Attack") == "mine"
    assert module_of("torch.nn.Linear") == "torch.nn"
    assert module_of("nowhere.at.all") is None
    assert module_of("math.sqrt") is None


def test_an_installed_root_counts_by_its_own_file(forget) -> None:
    assert needed("torchvision.models.resnet") == {"torchvision.models.resnet", "torchvision.models", "torchvision"}
    assert needed("numpy", "json.decoder", "nowhere") == {"numpy", "json", "json.decoder"}


def test_another_search_path_has_no_part_in_it(project: Path) -> None:
    assert not {name for name in needed("mine.other") if name.startswith(("math", "torch", "typing"))}


TEXT = '''"""About."""
import math

LIMIT = 3
"""Of something."""


def f(x: float) -> float:
    """What it does."""
    return math.sqrt(x) + LIMIT  # always
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('"""About."""', '"""About something else."""', True),
        ('"""About."""\n', "", True),
        ('"""Of something."""', "", True),
        ('    """What it does."""\n', "    # what it does\n", True),
        ("  # always", "", True),
        ("math.sqrt(x) + LIMIT", "(math.sqrt(x)\n            + LIMIT)", True),
        ("LIMIT = 3", "LIMIT = 3.0", False),
        ("LIMIT = 3", "LIMIT = None", False),
        ("LIMIT = 3", "LIMIT = ''", False),
        ("sqrt(x) + LIMIT", "sqrt(x) - LIMIT", False),
        ("sqrt(x) + LIMIT", "sqrt(LIMIT) + x", False),
        ("x: float", "x: float = 0.0", False),
        ("return math", "yield math", False),
    ],
)
def test_what_counts_of_a_text(project: Path, forget, before: str, after: str, same: bool) -> None:
    file = project / "empty" / "leaf.py"
    file.write_text(TEXT)
    (old,) = hashes(frozenset({"empty.leaf"}), ()).values()
    assert before in TEXT
    file.write_text(TEXT.replace(before, after))
    assert hashes(frozenset({"empty.leaf"}), ()) == {"empty.leaf": old}, "a process reads a module once"
    forget()
    (new,) = hashes(frozenset({"empty.leaf"}), ()).values()
    assert (new == old) is same
