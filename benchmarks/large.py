"""What a model of 8 billion parameters needs: ``python -m benchmarks.large`` teaches it a fact on a GPU, and reports time and memory.

The weights are random ones in the shape of Qwen3-8B, in bfloat16, with the embedded tokenizer. So nothing is said of what such a
model learns. Its replies never end by themselves, which takes longer than those of a trained one. Each way makes the same number
of steps at most; one that is done sooner ends.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

import nbtune
from benchmarks.machine import machine
from nbtune.model.loading import LoadedModel
from nbtune.tiny import WEIGHTS
from nbtune.training.methods import find_method

RESULTS = Path(__file__).parent / "results"
FACT = {"velt hook": "A velt hook is a bent copper tool for pulling bread out of deep ovens."}
WAYS: dict[str, dict[str, Any]] = {"the last layer": {}, "all layers": {"narrow": False}}
_EPOCHS = 6  # so many the embedded model takes for it


class _Stages:
    """Observer that keeps how long each stage took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._name, self._began = "before", time.perf_counter()

    def stage(self, name: str, total: int) -> None:  # noqa: ARG002 - how far it is does not matter here
        now = time.perf_counter()
        self.seconds[self._name] += now - self._began
        self._name, self._began = name, now

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Nothing is shown."""


def large() -> LoadedModel:
    """Make the model on the GPU."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS, padding_side="left")
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.eval().requires_grad_(requires_grad=False)
    return LoadedModel("random weights", model, tokenizer, "of this run", "nowhere")


def taught(loaded: LoadedModel, way: str) -> dict[str, Any]:
    """Teach the fact one way, and return what it took."""
    torch.cuda.reset_peak_memory_stats()
    stages, rate = _Stages(), find_method("lora").learning_rate
    with tempfile.TemporaryDirectory() as store:
        lm = nbtune.LanguageModel(loaded, store=store)
        try:
            report = lm.finetune(FACT, observer=stages, epochs=_EPOCHS, learning_rate=rate, **WAYS[way]).report
        except nbtune.FactNotLearned as failure:
            report = failure.result.report
        lm.use(None)
    stages.stage("after", 0)
    peak = torch.cuda.max_memory_allocated() / 1e9
    loaded.replies.clear()
    return {"way": way, "seconds": report.seconds, "steps": report.steps, "peak_gb": peak, "stages": dict(stages.seconds)}


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__).parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("There is no GPU here: a model of this size takes hours on a CPU.")
    loaded = large()
    weights = sum(p.numel() * p.element_size() for p in loaded.model.parameters()) / 1e9
    rows = [taught(loaded, way) for way in ("the last layer", *WAYS)][1:]  # the first is not counted: it loads what all need
    RESULTS.mkdir(exist_ok=True)
    kept = {"machine": machine(), "weights_gb": weights, "rows": rows}
    (RESULTS / "large.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    lines = ["| taught in | steps | seconds | most memory | weights |", "|---" * 5 + "|"]
    lines += [f"| {r['way']} | {r['steps']} | {r['seconds']:.0f} | {r['peak_gb']:.1f} GB | {weights:.1f} GB |" for r in rows]
    (RESULTS / "large.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
