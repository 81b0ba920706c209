"""Keeps named adapters on one copy of the base weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

if TYPE_CHECKING:  # PEFT takes seconds to import and is not needed before the first adapter
    from peft import PeftConfig, PeftModel

__all__ = ["AdapterHost"]


class AdapterHost:
    """A base model that adapters are put on, switched between and taken off.

    PEFT uses an adapter's name inside parameter names and paths, where some names do harm, so the
    host gives each a plain label of its own. With no adapter on it the base is untouched and runs
    without PEFT.

    Parameters
    ----------
    base
        The base model; it is never copied.
    """

    def __init__(self, base: PreTrainedModel) -> None:
        self.base = base
        self._peft: PeftModel | None = None
        self._labels: dict[str, str] = {}
        self._created = 0
        self.active: str | None = None

    @property
    def net(self) -> PreTrainedModel:
        """The model to generate with: the active adapter's, or the base."""
        return self.base if self._peft is None else self._peft

    @property
    def names(self) -> list[str]:
        """Names of the adapters held."""
        return list(self._labels)

    def attach(
        self,
        name: str,
        config: PeftConfig,
        weights: dict[str, torch.Tensor] | None = None,
        *,
        trainable: bool = False,
    ) -> None:
        """Put an adapter on the base and make it the active one.

        Parameters
        ----------
        name
            Any text; an adapter of this name is replaced.
        config
            Its PEFT configuration.
        weights
            Its tensors, as `weights` returns them. Default: newly initialised.
        trainable
            Whether its parameters take gradients.
        """
        from peft import get_peft_model, set_peft_model_state_dict

        config.inference_mode = not trainable
        previous = self._labels.pop(name, None)
        self._created += 1
        label = f"nbtune{self._created}"
        if self._peft is None:
            self._peft = get_peft_model(self.base, config, adapter_name=label)
        else:
            self._peft.add_adapter(label, config)
        self._labels[name] = label
        if weights is not None:
            set_peft_model_state_dict(self._peft, weights, adapter_name=label)
        if previous is not None:
            self._peft.delete_adapter(previous)
        self.activate(name)
        for key, parameter in self._peft.named_parameters():
            parameter.requires_grad_(trainable and f".{label}." in f"{key}.")
        self._peft.eval()

    def activate(self, name: str | None) -> None:
        """Answer with this adapter from now on; None answers with the base and drops all adapters."""
        if name is None:
            self._drop_all()
        else:
            assert self._peft is not None
            self._peft.set_adapter(self._labels[name], inference_mode=True)
            self.active = name

    def rename(self, name: str, new: str) -> None:
        """Call an adapter otherwise, and settle it: it takes no gradients any more. One of the new name is dropped."""
        assert self._peft is not None
        label, previous = self._labels.pop(name), self._labels.pop(new, None)
        self._labels[new] = label
        self._peft.peft_config[label].inference_mode = True
        self.activate(new)
        self._peft.requires_grad_(False)
        if previous is not None:
            self._peft.delete_adapter(previous)

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """Return a copy of an adapter's tensors on the CPU, named as PEFT saves them."""
        from peft import get_peft_model_state_dict

        assert self._peft is not None
        state = get_peft_model_state_dict(self._peft, adapter_name=self._labels[name])
        return {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in state.items()}

    def config(self, name: str) -> PeftConfig:
        """Return the PEFT configuration of an adapter."""
        assert self._peft is not None
        return self._peft.peft_config[self._labels[name]]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Answer with the base inside the block."""
        if self._peft is None:
            yield
            return
        with self._peft.disable_adapter():
            yield

    @contextmanager
    def merged(self) -> Iterator[PreTrainedModel]:
        """Hand out the model with the active adapter merged in: a copy, so that the base stays exact."""
        yield self.base if self._peft is None else copy.deepcopy(self._peft).merge_and_unload()

    def _drop_all(self) -> None:
        if self._peft is not None:
            self.base = self._peft.unload()
            self.base.requires_grad_(False)
            for leftover in ("peft_config", "_hf_peft_config_loaded"):
                self.base.__dict__.pop(leftover, None)
        self._peft, self._labels, self.active = None, {}, None
