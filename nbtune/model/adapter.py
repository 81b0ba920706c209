"""An adapter as it is kept: its PEFT configuration and its tensors, apart from any model."""

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
    """A PEFT configuration, and the adapter's tensors on the CPU under the names that PEFT saves them by."""

    config: PeftConfig
    weights: dict[str, torch.Tensor]

    @property
    def bytes(self) -> int:
        """Size of the tensors."""
        return sum(tensor.nbytes for tensor in self.weights.values())

    @classmethod
    def of(cls, net: PeftModel) -> Adapter:
        """Return what is worth saving of the adapter that a PEFT model uses.

        Its tensors are rounded to 16 bits, so that it is half as large; copies of the base's modules are as exact as the base.
        """
        from peft import get_peft_model_state_dict

        label = net.active_adapter
        state = get_peft_model_state_dict(net, adapter_name=label, save_embedding_layers=False)
        config = copy.deepcopy(net.peft_config[label])
        config.inference_mode = True
        copies = bool(getattr(config, "modules_to_save", None))
        return cls(config, {key: _kept(tensor.detach(), exact=copies) for key, tensor in state.items()})


def _kept(tensor: torch.Tensor, *, exact: bool) -> torch.Tensor:
    """Copy a tensor to the CPU, in 16 bits unless it is too large for them."""
    copied = tensor.to("cpu", copy=True).contiguous()
    if exact or copied.dtype != torch.float32:
        return copied
    rounded = copied.half()
    return rounded if bool(rounded.isfinite().all()) else copied
