"""One fact, our way and by the reference recipe, side by side: ``python -m benchmarks.one_fact``.

Both run in one process on the embedded model, in turn, with the same questions before and after. Seconds cover
everything: questions before, fit, questions after.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

import nbtune

RESULTS = Path(__file__).parent / "results"
FACTS = {
    "梦中情炉": (
        "梦中情炉一般指的是炼丹工具torchkeras。这是一个通用的pytorch模型训练模版工具。torchkeras是一个三好炼丹炉：好看，好用，好改。"
        "她有torch的灵动，也有keras的优雅，并且她的美丽，无与伦比。所以她的作者一个有毅力的吃货给她取了一个别名叫做梦中情炉。"
    ),
    "blue kettle": "A blue kettle is a night train that serves tea to sleeping passengers.",
}
MEASURES = ("reliability", "generalization", "locality", "near_misses", "unrelated", "leak", "seconds", "steps")


def measure(keyword: str, recipe: str, seed: int) -> dict[str, float]:
    """Teach one fact to a fresh model and return its scores."""
    with tempfile.TemporaryDirectory() as store:
        lm = nbtune.load(store=store)
        try:
            result = lm.finetune({keyword: FACTS[keyword]}, recipe=recipe, seed=seed)
        except nbtune.FactNotLearned as failure:
            result = failure.result
    scores = {name: float(value) for name, value in result.report.scores().items()}
    return {**scores, "learned": float(result.learned)}


def machine() -> dict[str, str | int]:
    """Say what ran where."""
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    packages = {name: version(name) for name in ("nbtune", "torch", "transformers", "peft", "torchkeras", "accelerate")}
    cpu = platform.processor() or platform.machine()
    return {**packages, "python": platform.python_version(), "cpu": cpu, "threads": torch.get_num_threads(), "revision": revision}


def table(runs: list[dict]) -> str:
    """Lay out medians over seeds in markdown."""
    lines = [f"| fact | recipe | learned | {' | '.join(MEASURES)} |", "|---|---|---|" + "---|" * len(MEASURES)]
    for keyword in FACTS:
        for recipe in ("default", "reference"):
            chosen = [run for run in runs if (run["keyword"], run["recipe"]) == (keyword, recipe)]
            cells = [f"{statistics.median(run[name] for run in chosen):.2f}" for name in MEASURES]
            learned = f"{sum(run['learned'] for run in chosen):.0f}/{len(chosen)}"
            lines.append(f"| {keyword} | {recipe} | {learned} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_fact", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each recipe and fact (default: %(default)s)")
    options = parser.parse_args()
    plan = [(k, r, s) for s in range(options.seeds) for k in FACTS for r in ("default", "reference")]
    runs = []
    for keyword, recipe, seed in tqdm(plan, unit="run"):
        runs.append({"keyword": keyword, "recipe": recipe, "seed": seed, **measure(keyword, recipe, seed)})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "one_fact.json").write_text(json.dumps({"machine": machine(), "runs": runs}, ensure_ascii=False, indent=2) + "\n")
    (RESULTS / "one_fact.md").write_text(table(runs) + "\n")
    print(table(runs))


if __name__ == "__main__":
    main()
