"""A long data set: ``python -m benchmarks.many_rows`` previews ten thousand rows, and trains one epoch on them."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import psutil
from tqdm import tqdm

import nbtune
from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results"
_WORDS = ["boat", "lamp", "stove", "rope", "door", "chair", "bell", "drum", "coin", "flag", "leaf", "cup", "sea", "sky", "hill", "road"]
_BATCH = 32


class _Watch:
    """Observer that records the memory in use after each training step, in MB."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self._bar: tqdm | None = None

    def stage(self, name: str, total: int) -> None:
        self._training = name == "training"
        self._bar = tqdm(desc=name, total=total)

    def advance(self, log: dict[str, float] | None = None) -> None:  # noqa: ARG002 - the losses are not used
        if self._bar is not None:
            self._bar.update()
        if self._training:
            self.memory.append(psutil.Process().memory_info().rss / 2**20)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_rows", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="how many (default: %(default)s)")
    options = parser.parse_args()
    rng = random.Random(0)

    def words() -> str:
        return " ".join(rng.choices(_WORDS, k=rng.randint(2, 30)))

    rows = [{"instruction": f"Repeat {words()}", "input": "", "output": words()} for _ in range(options.rows)]
    watch = _Watch()
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "rows.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        lm = nbtune.load(store=Path(place) / "store")
        began = time.perf_counter()
        lm.preview(file)
        previewed = time.perf_counter() - began
        report = lm.finetune(file, epochs=1, batch_size=_BATCH, observer=watch).report
    quarter = len(watch.memory) // 4
    found = {
        "rows": options.rows,
        "preview_seconds": previewed,
        "seconds": report.seconds,
        "steps": report.steps,
        "most_memory_mb_by_quarter": [max(watch.memory[at * quarter : (at + 1) * quarter]) for at in range(4)],
    }
    kept = {"machine": machine(), **found}
    (RESULTS / "many_rows.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
