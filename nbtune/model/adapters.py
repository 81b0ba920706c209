"""Puts an adapter on the one copy of the base weights, and takes it off again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from nbtune.errors import NbtuneError

if TYPE_CHECKING:  # PEFT takes seconds to import and is not needed before the first adapter
    from peft import PeftConfig, PeftModel

__all__ = ["AdapterHost", "Gate"]

Gate = Callable[[str], bool]  # says for a question whether the adapter answers it

# PEFT uses an adapter's name inside parameter names and paths, where some names do harm: on the host
# it is always this one, and the user's name stays in the store.
_LABEL = "nbtune"


class AdapterHost:
    """A base model with at most one adapter on it; without one the base runs untouched, without PEFT.

    Parameters
    ----------
    base
        The base model; it is never copied, except to export it.

    Attributes
    ----------
    stamp : int
        Another one whenever an adapter was put on or taken off.
    silent : bool
        Whether the base answers, although an adapter is on it.
    """

    def __init__(self, base: PreTrainedModel) -> None:
        self.base = base
        self.stamp = 0
        self._peft: PeftModel | None = None
        self._gate: Gate | None = None
        self.silent = False

    @property
    def net(self) -> PreTrainedModel:
        """The model to generate with: the adapter's, or the base."""
        return self.base if self._peft is None else self._peft

    def attach(
        self,
        config: PeftConfig,
        weights: dict[str, torch.Tensor] | None = None,
        *,
        trainable: bool = False,
        gate: Gate | None = None,
    ) -> None:
        """Put an adapter on the base, in place of the one that is there.

        Parameters
        ----------
        config
            Its PEFT configuration; it is copied.
        weights
            Its tensors, as `weights` returns them. Default: newly initialised.
        trainable
            Whether its parameters take gradients.
        gate
            Which questions it answers; the base answers the others. Default: all.

        Raises
        ------
        NbtuneError
            When PEFT refuses because of another package, such as an old torchao.
        """
        from peft import get_peft_model, set_peft_model_state_dict

        self.clear()
        self.stamp += 1
        config = copy.deepcopy(config)
        config.inference_mode = not trainable
        try:
            with warnings.catch_warnings():  # what PEFT calls in transformers is deprecated there: nothing a user can mend
                warnings.simplefilter("ignore", FutureWarning)
                warnings.filterwarnings("ignore", "The following rank_pattern keys", RuntimeWarning)
                self._peft = get_peft_model(self.base, config, adapter_name=_LABEL)
        except ImportError as error:
            self.clear()
            raise NbtuneError(f"PEFT can't put an adapter on this model: {error} Install or uninstall what it names.") from None
        if weights is not None:
            set_peft_model_state_dict(self._peft, weights, adapter_name=_LABEL)
        if not trainable:
            self._peft.requires_grad_(False)
        self._peft.eval()
        self._gate = gate

    def clear(self) -> None:
        """Take the adapter off: the base answers again."""
        if self._peft is not None:
            self.stamp += 1
            self.base = self._peft.unload()
            self.base.requires_grad_(False)
            for leftover in ("peft_config", "_hf_peft_config_loaded"):
                self.base.__dict__.pop(leftover, None)
        self._peft = self._gate = None

    def settled(self) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
        """Return what is worth saving of the adapter: its configuration, and its tensors on the CPU as PEFT saves them."""
        from peft import get_peft_model_state_dict

        assert self._peft is not None
        state = get_peft_model_state_dict(self._peft, adapter_name=_LABEL)
        config = copy.deepcopy(self._peft.peft_config[_LABEL])
        config.inference_mode = True
        return config, {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in state.items()}

    def sides(self, questions: Sequence[str]) -> dict[bool, list[int]]:
        """Part questions into those that the adapter answers, under True, and those of the base.

        Parameters
        ----------
        questions
            What the gate reads.

        Returns
        -------
        dict
            The places of the questions; a side without any is left out.
        """
        sides: dict[bool, list[int]] = {}
        for place, question in enumerate(questions):
            sides.setdefault(self._gate is None or self._gate(question), []).append(place)
        return sides

    @contextmanager
    def answering(self, adapted: bool) -> Iterator[None]:
        """Answer with the adapter, or else with the base, inside the block."""
        if adapted or self._peft is None or self.silent:
            yield
            return
        self.silent = True
        try:
            with self._peft.disable_adapter():
                yield
        finally:
            self.silent = False

    def merged(self) -> PreTrainedModel:
        """Return the model with the adapter merged in: a copy, so that the base stays exact."""
        return self.base if self._peft is None else copy.deepcopy(self._peft).merge_and_unload()
