"""Defines an adapter as it is stored, apart from any model: its PEFT configuration and its tensors."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # PEFT takes seconds to import and is not needed before the first adapter
    from peft import PeftConfig, PeftModel

__all__ = ["Adapter"]


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter: its configuration, and its tensors on the CPU under the names that PEFT uses for saving."""

    config: PeftConfig
    weights: dict[str, torch.Tensor]

    @property
    def bytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.weights.values())

    @classmethod
    def of(cls, net: PeftModel) -> Adapter:
        """Return the active adapter of a PEFT model, ready to be saved.

        Tensors in float32 are rounded to float16, which halves their size. An adapter that holds copies of the base's modules is
        not rounded, so that they stay as exact as the base.
        """
        from peft import get_peft_model_state_dict

        label = net.active_adapter
        state = get_peft_model_state_dict(net, adapter_name=label, save_embedding_layers=False)
        config = copy.deepcopy(net.peft_config[label])
        config.inference_mode = True
        copies = bool(getattr(config, "modules_to_save", None))
        return cls(config, {key: _kept(tensor.detach(), exact=copies) for key, tensor in state.items()})


def _kept(tensor: torch.Tensor, *, exact: bool) -> torch.Tensor:
    """Copy a tensor to the CPU, rounding float32 to float16 unless `exact` is set or a value is too large for float16."""
    copied = tensor.to("cpu", copy=True).contiguous()
    if exact or copied.dtype != torch.float32:
        return copied
    rounded = copied.half()
    return rounded if bool(rounded.isfinite().all()) else copied
