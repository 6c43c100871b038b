"""The notebooks run, and the committed ones show what their sources say."""

import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jupytext
    import nbclient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
SHORT = ("01_quickstart", "03_seeds")
"""Notebooks that `make test` runs; the others take longer."""
each = pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each
def test_committed_notebook_shows_its_source(source):
    committed = source.with_suffix(".ipynb")
    assert code_cells(committed) == code_cells(source)
    assert committed.stat().st_size < 300_000
    text = committed.read_text(encoding="utf-8")
    machine = (str(Path.home()), str(Path(__file__).parents[1]), "site-packages", "/tmp/", "ipykernel_")
    assert not [path for path in machine if path in text]
    outputs = [o for cell in jupytext.read(committed).cells for o in cell.get("outputs", [])]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [pytest.param(path, id=path.stem, marks=[] if path.stem in SHORT else pytest.mark.long) for path in NOTEBOOKS],
)
def test_notebook_runs(source, tmp_path):
    # Jupyter's and ZeroMQ's own warnings, here and in threads they leave behind, are not this package's.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = tmp_path / source.with_suffix(".ipynb").name
        jupytext.write(jupytext.read(source), copy)
        notebook = jupytext.read(copy)
        client = nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error"]
