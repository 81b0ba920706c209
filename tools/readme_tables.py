"""Copies the measured tables into both READMEs: ``python tools/readme_tables.py``, after a benchmark or an evaluation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "README.zh-CN.md")


def tables() -> dict[str, str]:
    """Return the tables by the name of their place in a README."""
    card = (ROOT / "nbtune" / "tiny" / "weights" / "README.md").read_text(encoding="utf-8")
    return {
        "knowledge": (ROOT / "benchmarks" / "results" / "knowledge.md").read_text(encoding="utf-8").strip(),
        "methods": (ROOT / "benchmarks" / "results" / "methods.md").read_text(encoding="utf-8").strip(),
        "speed": (ROOT / "benchmarks" / "results" / "speed.md").read_text(encoding="utf-8").strip(),
        "tiny": "\n".join(line for line in card.split("## How well it does")[1].splitlines() if line.startswith("|")),
    }


def filled(page: str) -> str:
    """Return a README with the tables in their places."""
    for name, table in tables().items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        page = re.sub(rf"{start}.*?{end}", lambda _, text=f"{start}\n{table}\n{end}": text, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
