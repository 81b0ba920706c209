"""Imports torchkeras without the line that it prints for each missing optional dependency."""

from __future__ import annotations

from nbtune.imports import without_output

with without_output():
    from torchkeras.kerasmodel import KerasModel as TorchkerasModel
    from torchkeras.kerasmodel import StepRunner as TorchkerasStepRunner

__all__ = ["TorchkerasModel", "TorchkerasStepRunner"]
