"""The notebooks and the snippets of the README run as printed."""

import json
import re
import warnings
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent
NOTEBOOKS = sorted((PACKAGE / "examples").glob("*.ipynb"))


def run(cells, tmp_path, monkeypatch):
    """Runs code as a notebook does, and returns the value of the last expression of each cell."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    values = []
    for cell in cells:
        lines = cell.rstrip().split("\n")
        try:
            last = compile(lines[-1], "cell", "eval")
        except SyntaxError:
            lines, last = [*lines, "None"], compile("None", "cell", "eval")
        exec(compile("\n".join(lines[:-1]), "cell", "exec"), names)
        values.append(eval(last, names))
    return values


def test_there_are_two_notebooks_without_outputs():
    assert [notebook.stem for notebook in NOTEBOOKS] == ["language_model", "vision_transformer"]
    for notebook in NOTEBOOKS:
        for cell in json.loads(notebook.read_text())["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebooks_run_and_show_a_page(notebook, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    pytest.importorskip("PIL")
    cells = json.loads(notebook.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    values = run(code, tmp_path, monkeypatch)
    assert "<iframe" in values[-1]._repr_html_()


def test_snippets_of_the_readme_run_in_their_order(tmp_path, monkeypatch):
    snippets = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.S)
    assert len(snippets) == 3
    run(snippets[:1], tmp_path, monkeypatch)
    pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(snippets, tmp_path, monkeypatch)
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
