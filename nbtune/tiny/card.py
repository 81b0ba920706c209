"""Writes the built-in model's card from the records of training and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["stages", "write_card"]

_CARD = """\
---
language: [zh, en]
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Tiny, the built-in model of nbtune

## What it is
A Qwen3 of {millions:.1f} million parameters with tied embeddings, a byte-level BPE tokenizer of its own and a chat
template with `{{% generation %}}` marks. It answers some 650 plain facts in Chinese and as many in English, adds and
subtracts up to 20, makes small talk, uses what it was told earlier in the conversation, and says of
anything else that it does not know it, by its exact name. It exists so that a fact can be taught, proved
and taken back on a laptop in seconds.

## What it is not
An assistant. It knows nothing but the text in `nbtune/tiny/text`, it was trained on questions of the kinds
above and on nothing else, its context is 512 tokens, and what it says outside of that has no worth.

## How it was made
`python -m nbtune.tiny.train`, from text that the project wrote{again}. Wordings in the right-hand column, one name in
ten, and one combination of a known name and a wording in ten were never trained.

{stages}

## How well it does
`python -m nbtune.tiny.evaluate`, greedy, exact match of the whole reply:

{table}
"""


def write_card(folder: Path, table: str) -> None:
    """Write ``README.md`` beside the weights.

    Parameters
    ----------
    folder
        Folder of the model, with the ``training.json`` that training wrote.
    table
        The scores as a Markdown table.
    """
    made = stages(json.loads((folder / "training.json").read_text()))
    columns = [_column(stage, number) for number, stage in enumerate(made, start=1)]
    heads = [f"stage {number}" for number in range(1, len(made) + 1)] if len(made) > 1 else [""]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(made)]
    lines += [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    text = _CARD.format(
        millions=made[-1]["parameters"] / 1e6,
        again=f", in {len(made)} stages: each went on (`--start`) from the one before, on a larger text or another mixture"
        if len(made) > 1
        else "",
        stages="\n".join(lines),
        table=table,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def stages(made: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the record of each stage of a training, the first stage first.

    Parameters
    ----------
    made
        Record of the last stage, from its ``training.json``.
    """
    before = made.get("started_from")
    return [*(stages(before) if before else []), made]


def _column(made: dict[str, Any], number: int) -> dict[str, str]:
    # The text may have grown during the training.
    texts = ", then ".join(f"`{text}`" + (f" from step {step}" if len(made["texts"]) > 1 else "") for step, text in made["texts"])
    return {
        "corpus (SHA-256)": texts,
        "seed": str(made["seed"]),
        "steps, conversations a step": f"{made['steps']}, {made['batch_size']}",
        "other shares of kinds": ", ".join(f"{kind} {weight}" for kind, weight in made.get("weights", {}).items()),
        "optimizer": f"Muon (matrices) and AdamW (the rest), peak learning rate {made['learning_rate']}, linear decay",
        "precision": "bfloat16 products" if made.get("bf16") else "float32",
        "tokens": f"{made['tokens']:,}",
        "loss at the end (mean of 100 steps)": str(made["loss"]),
        "time": f"{made['seconds'] / 60:.0f} minutes on {made['threads']} threads of a {made['device']}, beside other work",
        "torch": str(made["torch"]),
        "then averaged (`python -m nbtune.tiny.average`)": ", ".join(_part(part, number) for part in made.get("averaged", [])),
    }


def _part(part: dict[str, Any], number: int) -> str:
    stage = "this" if part["stage"] == number and not part["mean"] else f"stage {part['stage']}"
    return f"{part['share']} of {stage}{' (its mean)' if part['mean'] else ''}"
