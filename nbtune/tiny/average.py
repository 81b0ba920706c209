"""Averages finished models of one training: ``python -m nbtune.tiny.average 0.3 FIRST 0.7 SECOND --out FOLDER``.

A later stage of a training learns new things and forgets others. Weights on the straight line between two stages keep most
of what either of them can do (WiSE-FT, Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from nbtune.tiny import WEIGHTS
from nbtune.tiny.card import stages

__all__ = ["average", "main"]

_WEIGHTS = "model.safetensors"


def average(shares: dict[Path, float], out: Path) -> None:
    """Write the weighted mean of several models, with the tokenizer of the last one.

    Parameters
    ----------
    shares
        Share of each model, by its folder, the latest stage last; the shares add up to 1.
    out
        Folder to write to.
    """
    states = {folder: load_file(folder / _WEIGHTS) for folder in shares}
    last = list(shares)[-1]
    mean = {}
    for name in states[last]:
        total = torch.zeros_like(states[last][name], dtype=torch.float32)
        for folder, share in shares.items():
            total += share * states[folder][name].float()
        mean[name] = total.half()
    records = {folder: json.loads((folder / "training.json").read_text()) for folder in shares}
    made = records[last]
    parts = [
        {"share": share, "stage": len(stages(records[folder])), "mean": "averaged" in records[folder]} for folder, share in shares.items()
    ]
    if out != last:
        shutil.copytree(last, out, dirs_exist_ok=True)
    save_file(mean, out / _WEIGHTS, metadata={"format": "pt"})
    made["averaged"] = parts
    (out / "training.json").write_text(json.dumps(made, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m nbtune.tiny.average", description=__doc__)
    parser.add_argument("pairs", nargs="+", metavar="SHARE FOLDER", help="shares that add up to 1, each with its model")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the averaged model (default: the shipped one)")
    options = parser.parse_args(arguments)
    shares = {Path(folder): float(share) for share, folder in zip(options.pairs[::2], options.pairs[1::2], strict=True)}
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise SystemExit(f"The shares add up to {sum(shares.values()):g}: expected 1.")
    average(shares, options.out)


if __name__ == "__main__":
    main()
