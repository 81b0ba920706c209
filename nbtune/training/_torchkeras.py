"""Imports torchkeras quietly: its package prints a line for every optional dependency it misses."""

from __future__ import annotations

from nbtune.imports import unheard

with unheard():
    from torchkeras.kerasmodel import KerasModel as TorchkerasModel
    from torchkeras.kerasmodel import StepRunner as TorchkerasStepRunner

__all__ = ["TorchkerasModel", "TorchkerasStepRunner"]
