"""Writes the embedded model's card from what training and evaluation left behind."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["write_card"]

_CARD = """\
---
language: [zh, en]
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Tiny, the embedded model of nbtune

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
`python -m nbtune.tiny.train`, from text that the project wrote. Wordings in the right-hand column, one name in
ten, and one combination of a known name and a wording in ten were never trained.

| | |
|---|---|
| corpus (SHA-256) | {texts} |
| seed | {seed} |
| steps, conversations a step | {steps}, {batch_size} |
| optimizer | Muon (matrices) and AdamW (the rest), peak learning rate {learning_rate}, linear decay |
| tokens | {tokens:,} |
| loss at the end (mean of 100 steps) | {loss} |
| time | {minutes:.0f} minutes on {threads} threads of a {device}, beside other work |
| torch | {torch} |

## How well it does
`python -m nbtune.tiny.evaluate`, greedy, exact match of the whole reply:

{table}
"""


def write_card(folder: Path, table: str) -> None:
    """Write ``README.md`` beside the weights.

    Parameters
    ----------
    folder
        The model, with the ``training.json`` that training wrote.
    table
        The scores in markdown.
    """
    made = json.loads((folder / "training.json").read_text())
    # The text may have grown while the training went on.
    texts = ", then ".join(f"`{text}` from step {step}" for step, text in made["texts"])
    made |= {"texts": texts, "millions": made["parameters"] / 1e6, "minutes": made["seconds"] / 60, "table": table}
    (folder / "README.md").write_text(_CARD.format(**made), encoding="utf-8")
