"""Manages the places on a model where PEFT holds adapters: fills them, and puts the model's own modules back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

if TYPE_CHECKING:  # PEFT takes seconds to import and is not needed before the first adapter
    from peft import PeftConfig, PeftModel

    from nbtune.model.adapter import Adapter

__all__ = ["AdapterPlace", "is_adapters", "kind", "label", "mending", "strip"]

_LABEL = "nbtune"  # PEFT puts names into parameter names and paths, where some do harm: the user's names stay in the store


@dataclass
class AdapterPlace:
    """Place on a model for adapters of one configuration, one at a time.

    Parameters
    ----------
    label
        PEFT's name for the place.
    config
        PEFT configuration of the adapters.
    holds
        The adapter whose tensors are there now.
    """

    label: str
    config: PeftConfig
    holds: Adapter | None = None
    _tensors: dict[str, torch.Tensor] | None = None

    def fill(self, net: PeftModel, weights: dict[str, torch.Tensor]) -> None:
        """Copy an adapter's tensors to this place on a PEFT model."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        if getattr(self.config, "rank_pattern", None) or self.config.is_prompt_learning:  # PEFT returns copies then
            set_peft_model_state_dict(net, weights, adapter_name=self.label)
            return
        if self._tensors is None:
            # By default, PEFT would ask the hub each time for the vocabulary size of the original model.
            self._tensors = get_peft_model_state_dict(net, adapter_name=self.label, save_embedding_layers=False)
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(weights[name])


def label(number: int) -> str:
    """Return PEFT's name for the place of this number."""
    return f"{_LABEL}{number}"


def is_adapters(name: str) -> bool:
    """Return whether a parameter of this name belongs to an adapter, not to the model itself."""
    return any(part.startswith(_LABEL) for part in name.split("."))


def kind(config: PeftConfig) -> tuple[Any, ...]:
    """Return a key that is equal for adapters that can be on a model together: PEFT can't handle different copies of whole modules."""
    return config.peft_type, *(getattr(config, "modules_to_save", None) or ())


def strip(base: PreTrainedModel) -> None:
    """Put a model's own modules back where PEFT replaced them, even if it was interrupted and replaced only some.

    PEFT's ``unload`` requires that all of them were replaced, and leaves copies in the place of the base's own modules.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    replaced: list[str] = []
    for name, module in list(base.named_modules()):
        if any(name.startswith(f"{outer}.") for outer in replaced):  # nested in a wrapper, whose original module is back already
            continue
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            base.set_submodule(name, module.get_base_layer() if isinstance(module, BaseTunerLayer) else module.original_module)
            replaced.append(name)
    base.requires_grad_(False)
    for leftover in ("peft_config", "_hf_peft_config_loaded"):
        base.__dict__.pop(leftover, None)


def mending() -> str:
    """Return advice for the user on a package that PEFT refuses; Colab comes with an old torchao."""
    from peft.import_utils import is_torchao_available

    try:
        is_torchao_available()
    except ImportError:
        return "Run `%pip uninstall -y torchao` and this cell again; or `%pip install -U torchao`, and restart the kernel."
    return "Install or uninstall what it names."
