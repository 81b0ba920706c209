"""Writes the tables of measurements, options and families into the READMEs and the docs: ``python -m tools.readme_tables``.

Run it after a benchmark or an evaluation, and after a change to the options of a magic or to the tested families.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests import families
from tools.option_tables import option_tables

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")
PAGES = (*READMES, "docs/chat.md", "docs/finetune.md", "docs/models.md", "docs/nbtune.md")


def tables() -> dict[str, str]:
    """Return the tables by the names of their placeholders in a page."""
    card = (ROOT / "nbtune" / "tiny" / "weights" / "README.md").read_text(encoding="utf-8")
    return {
        "knowledge": (ROOT / "benchmarks" / "results" / "knowledge.md").read_text(encoding="utf-8").strip(),
        "methods": (ROOT / "benchmarks" / "results" / "methods.md").read_text(encoding="utf-8").strip(),
        "speed": (ROOT / "benchmarks" / "results" / "speed_summary.md").read_text(encoding="utf-8").strip(),
        "tiny": "\n".join(line for line in card.split("## How well it does")[1].splitlines() if line.startswith("|")),
        "families": families.table(),
        **option_tables(),
    }


def filled(page: str) -> str:
    """Return a page with each table between the marks of its placeholder."""
    for name, table in tables().items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        page = re.sub(rf"{start}.*?{end}", lambda _, text=f"{start}\n{table}\n{end}": text, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
