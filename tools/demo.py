"""Runs the first tutorial, and prints what the model said before and after: ``make demo``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "01_teach_one_fact.ipynb"
OUT = ROOT / "build" / "demo"


def printed(notebook: nbformat.NotebookNode, tag: str) -> str:
    """Return what the cells with a tag printed."""
    texts = []
    for cell in notebook.cells:
        if tag in cell.metadata.get("tags", []):
            texts += [output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]
    return "".join(texts).strip()


def main() -> None:
    """Execute the notebook, save it, and print the replies."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    codes = sum(cell.cell_type == "code" for cell in notebook.cells)
    OUT.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tqdm(total=codes, desc=NOTEBOOK.name, unit="cell", file=sys.stdout) as bar:
        limits = {"timeout": 600, "startup_timeout": 300, "iopub_timeout": 60}
        resources = {"metadata": {"path": str(OUT)}}
        client = NotebookClient(notebook, resources=resources, on_cell_executed=lambda **_: bar.update(), **limits)
        client.execute()
    executed, page = OUT / NOTEBOOK.name, (OUT / NOTEBOOK.name).with_suffix(".html")
    nbformat.write(notebook, executed)
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    print(f"\n{printed(notebook, 'before')}\n\n{printed(notebook, 'after')}\n")
    print(f"finished in {time.perf_counter() - started:.0f} s")
    print(f"notebook: {executed}\npage:     {page}")


if __name__ == "__main__":
    main()
