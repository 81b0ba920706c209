"""The places on a model where PEFT holds adapters: how one is filled, and how the model's own modules come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

if TYPE_CHECKING:  # PEFT takes seconds to import and is not needed before the first adapter
    from peft import PeftConfig, PeftModel

    from nbtune.model.adapter import Adapter

__all__ = ["AdapterPlace", "is_adapters", "kind", "label", "mending", "strip"]

_LABEL = "nbtune"  # PEFT uses a name inside parameter names and paths, where some names do harm: the user's stay in the store


@dataclass
class AdapterPlace:
    """Where adapters of one configuration are put, one at a time: PEFT's name for it, and which of them is there."""

    label: str
    config: PeftConfig
    holds: Adapter | None = None
    _tensors: dict[str, torch.Tensor] | None = None

    def fill(self, net: PeftModel, weights: dict[str, torch.Tensor]) -> None:
        """Copy an adapter's tensors here."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        if getattr(self.config, "rank_pattern", None) or self.config.is_prompt_learning:  # what PEFT saves is not the model's own memory
            set_peft_model_state_dict(net, weights, adapter_name=self.label)
            return
        if self._tensors is None:
            # By default PEFT would ask the hub, each time, for how many tokens there were once.
            self._tensors = get_peft_model_state_dict(net, adapter_name=self.label, save_embedding_layers=False)
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(weights[name])


def label(number: int) -> str:
    """Return PEFT's name for a place."""
    return f"{_LABEL}{number}"


def is_adapters(name: str) -> bool:
    """Say whether a parameter of this name is an adapter's, not the model's own."""
    return any(part.startswith(_LABEL) for part in name.split("."))


def kind(config: PeftConfig) -> tuple[Any, ...]:
    """Say which adapters can be on the model together: PEFT does not find its way past copies of whole modules."""
    return config.peft_type, *(getattr(config, "modules_to_save", None) or ())


def strip(base: PreTrainedModel) -> None:
    """Put a model's own modules back where PEFT has put its own, all of them or some, when it was interrupted.

    PEFT's ``unload`` needs all of them, and leaves copies of modules in the place of the base's own.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    replaced: list[str] = []
    for name, module in list(base.named_modules()):
        if any(name.startswith(f"{outer}.") for outer in replaced):  # of two around one another the outer one holds the model's own, too
            continue
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            base.set_submodule(name, module.get_base_layer() if isinstance(module, BaseTunerLayer) else module.original_module)
            replaced.append(name)
    base.requires_grad_(False)
    for leftover in ("peft_config", "_hf_peft_config_loaded"):
        base.__dict__.pop(leftover, None)


def mending() -> str:
    """Say what to do where PEFT refuses a package; Colab comes with an old torchao."""
    from peft.import_utils import is_torchao_available

    try:
        is_torchao_available()
    except ImportError:
        return "Run `%pip uninstall -y torchao` and this cell again; or `%pip install -U torchao`, and restart the kernel."
    return "Install or uninstall what it names."
