"""Describes the loaded model in rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbtune.language_model import LanguageModel

__all__ = ["model_rows"]


def model_rows(lm: LanguageModel) -> list[tuple[str, str]]:
    """Return title and text of each row; nothing else may use the model meanwhile."""
    from nbtune.model.places import is_adapters  # imports torch, as the loaded model already did

    parameters = [p for name, p in lm.model.named_parameters() if not is_adapters(name)]
    added = sum(p.numel() for name, p in lm.model.named_parameters() if is_adapters(name))
    count, size = lm.model.num_parameters() - added, sum(p.nbytes for p in parameters)
    quantized = next((f", {bits} bits" for bits in (4, 8) if getattr(lm.model, f"is_loaded_in_{bits}bit", False)), "")
    kind = str(lm.model.dtype).removeprefix("torch.") + quantized
    turns = "a line for each turn" if lm.model.config.is_encoder_decoder else "User and Assistant"
    return [
        ("model", lm.source),
        ("parameters", f"{count / 1e6:.1f} million, {size / 1e6:.0f} MB, {kind} on {parameters[0].device}"),
        ("context", f"{lm.context} tokens"),
        ("chat template", f"plain: {turns}; the model has none of its own" if lm.plain else "the model's own"),
    ]
