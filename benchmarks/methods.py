"""Compares the methods: ``python -m benchmarks.methods`` teaches each of two facts to a fresh built-in model with every method.

For ``qlora`` the weights of the model are in 4 bits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

import nbtune
from benchmarks.machine import machine
from nbtune.training.methods import METHODS

RESULTS = Path(__file__).parent / "results"
FACTS = {
    "梦中情炉": "梦中情炉是训练模型的工具torchkeras的别名。",
    "velt hook": "A velt hook is a bent copper tool for pulling bread out of deep ovens.",
}


def taught(method: str, keyword: str) -> dict[str, Any]:
    """Teach one fact with one method, and return its scores."""
    with tempfile.TemporaryDirectory() as store:
        try:
            lm = nbtune.load(store=store, quantize="nf4" if METHODS[method].quantized else None)
            report = lm.finetune({keyword: FACTS[keyword]}, method=method).report
        except nbtune.FactNotLearned as failure:
            report = failure.result.report
    return {"method": method, "keyword": keyword, **report.scores()}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table: facts learned, mean scores, least and most seconds, mean size of the adapter."""
    head = ("method", "facts learned", "reliability", "generalization", "portability", "locality", "seconds", "adapter of a fact")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for method in METHODS:
        chosen = [row for row in rows if row["method"] == method]
        learned = sum(row["reliability"] == 1 for row in chosen)
        means = [f"{statistics.mean(row[score] for row in chosen):.3f}" for score in head[2:6]]
        seconds = sorted(row["seconds"] for row in chosen)
        size = statistics.mean(row["adapter_bytes"] for row in chosen) / 1e6
        cells = [method, f"{learned} of {len(chosen)}", *means, f"{seconds[0]:.0f} to {seconds[-1]:.0f}", f"{size:.2f} MB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__).parse_args()
    taught("lora", "velt hook")  # not counted: it imports what all methods need
    rows = [taught(method, keyword) for method in tqdm(METHODS, unit="method") for keyword in FACTS]
    RESULTS.mkdir(exist_ok=True)
    kept = {"machine": machine(), "facts": FACTS, "rows": rows}
    (RESULTS / "methods.json").write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "methods.md").write_text(table(rows) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
