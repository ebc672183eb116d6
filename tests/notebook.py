"""Executes a notebook without Jupyter: `python tests/notebook.py docs/notebook.ipynb` stores its outputs."""

import ast
import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

Output = dict[str, Any]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells with code, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(notebook: dict[str, Any]) -> dict[str, Any]:
    """Execute the cells in order, in one namespace, and replace their outputs; returns the namespace."""
    names: dict[str, Any] = {}
    for number, cell in enumerate(code_cells(notebook), 1):
        cell |= {"execution_count": number, "outputs": list(_outputs("".join(cell["source"]), names, number))}
    return names


def _outputs(source: str, names: dict[str, Any], number: int) -> Iterator[Output]:
    """What a cell prints, the value of its last expression, and its pictures."""
    tree = ast.parse(source, f"cell {number}")
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    if printed.getvalue():
        yield {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        yield {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
    for place in plt.get_fignums():
        picture = io.BytesIO()
        plt.figure(place).savefig(picture, format="png", dpi=80, bbox_inches="tight")
        data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
        yield {"output_type": "display_data", "metadata": {}, "data": data}
    plt.close("all")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    content = json.loads(file.read_text(encoding="utf-8"))
    execute(content)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
