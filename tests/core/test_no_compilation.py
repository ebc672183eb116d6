"""torch.compile is never used: over double backward it is wrong or fails in versions of torch that are allowed.

https://github.com/pytorch/pytorch/issues/91469, 181581 and 183603. Maps are gradients, so an attack on them and a defense of them
differentiate twice whatever they call; a compiled network would be inside all of that.
"""

import ast
from pathlib import Path

import runner

FORBIDDEN = {"compile", "_dynamo", "_inductor"}


def compiled(source: str) -> list[int]:
    """Lines that name a compiler of torch: `torch.compile`, `model.compile()`, an import of either."""
    found = []
    for node in ast.walk(ast.parse(source)):
        attribute = isinstance(node, ast.Attribute) and node.attr in FORBIDDEN and ast.unparse(node.value) != "re"
        imported = isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        parts = {part for name in [*names, getattr(node, "module", None) or ""] for part in name.split(".")}
        if attribute or ((imported or any(name.startswith("torch") for name in names)) and parts & FORBIDDEN):
            found.append(node.lineno)
    return found


def test_the_search_finds_every_way_to_compile():
    for way in ("torch.compile(f)", "from torch import compile", "import torch._dynamo", "model.compile()"):
        assert compiled(way) == [1], way
    assert compiled("re.compile('x')\nimport torch") == []


def test_no_module_compiles_a_network():
    files = sorted(Path(runner.__file__).parent.rglob("*.py"))
    assert len(files) > 200
    assert {str(file): lines for file in files if (lines := compiled(file.read_text(encoding="utf-8")))} == {}
