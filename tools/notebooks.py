"""Runs the notebooks again, and saves their outputs in them: ``make notebooks``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
_WIDGET = "application/vnd.jupyter.widget-view+json"


def main() -> None:
    """Execute the notebooks, and save them without progress bars."""
    for path in tqdm(NOTEBOOKS, unit="notebook"):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=900, record_timing=False, store_widget_state=False, resources=resources).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if not _bar(output)]
        nbformat.write(notebook, path)


def _bar(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is another library's progress bar: a widget without HTML."""
    data = output.get("data", {})
    return _WIDGET in data and "text/html" not in data


if __name__ == "__main__":
    main()
