"""The embedded default model: its text, its recipe, its weights."""

from pathlib import Path

__all__ = ["WEIGHTS"]

WEIGHTS = Path(__file__).parent / "weights"
