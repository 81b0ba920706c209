"""Prunes a model's vocabulary to what a corpus needs: fewer rows in embedding and head, with the corpus tokenized as before."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from nbtune.chat_template import apply_chat_template
from nbtune.errors import NbtuneError
from nbtune.language_model import LanguageModel
from nbtune.model.arguments import has_encoder
from nbtune.model.exporting import atomic_folder, check_folder, write_model

__all__ = ["Pruned", "prune_vocabulary"]

# Largest accepted difference of logits, relative to the largest logit: a smaller matrix product may be summed in another order.
# In 16 bits, this many rounding steps are accepted.
_CLOSE, _STEPS = 1e-4, 2
_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}  # single bytes in tokenizers without a byte alphabet
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Pruned:
    """Result of pruning a vocabulary.

    Parameters
    ----------
    folder
        Folder of the smaller model, for `nbtune.load`.
    tokens_before, tokens
        Size of the vocabulary before and after.
    bytes_before, bytes
        Size of the weights in bytes, before and after.
    """

    folder: Path
    tokens_before: int
    tokens: int
    bytes_before: int
    bytes: int


def prune_vocabulary(lm: LanguageModel, texts: Iterable[str], folder: str | Path, *, max_shard_size: str = "5GB") -> Pruned:
    """Write a copy of a model whose vocabulary holds only the tokens that a corpus needs, single bytes and special tokens.

    Each text of the corpus is split into the same tokens as before, and the logits of the kept tokens are the same; both are
    checked before the model is put in place. Other texts can still be read, with more tokens.

    Parameters
    ----------
    lm
        The model; no adapter may be in use.
    texts
        The corpus: questions as well as answers.
    folder
        A new or empty folder.
    max_shard_size
        Maximum size of a file of weights. Default: ``"5GB"``.

    Returns
    -------
    Pruned
        Where the model is, and its size before and after.

    Raises
    ------
    NbtuneError
        For an adapter in use, quantised weights, a model with an encoder, a corpus that is empty or a single text, a tokenizer that is
        not byte-pair encoding, a folder that is not empty, a text that would be read differently, or a full disk.

    Notes
    -----
    Based on LLMPruner (Yang 2023), which prunes Bloom's vocabulary for Firefly. A merge is kept if the token it makes is kept, so that
    byte-pair encoding takes exactly the same steps as before.
    """
    if isinstance(texts, str):
        raise NbtuneError("The corpus is a single text: give a list of texts, such as Path('corpus.txt').read_text().splitlines().")
    corpus, target = [text for text in texts if text], check_folder(folder)
    if lm.adapter is not None:
        raise NbtuneError(f"The adapter {lm.adapter!r} is in use: export it first, and prune the export; or `lm.use(None)`.")
    if getattr(lm.model, "is_quantized", False):
        raise NbtuneError("Quantised weights can't be pruned: load the model without quantize.")
    if has_encoder(lm.model):
        raise NbtuneError("The vocabulary of a model with an encoder can't be pruned: load one that only has a decoder.")
    if not corpus:
        raise NbtuneError("The corpus is empty: give the texts that the model should read and write.")
    state = json.loads(lm.tokenizer.backend_tokenizer.to_str()) if lm.tokenizer.is_fast else {"model": {"type": "slow"}}
    if state["model"]["type"] != "BPE":
        raise NbtuneError(f"Only a byte-pair-encoding vocabulary can be pruned, not {state['model']['type']}.")
    kept = _kept(lm.tokenizer, state, corpus)
    tokenizer, model = _smaller_tokenizer(lm.tokenizer, state, kept), _smaller_model(lm.model, kept)
    for text in corpus:
        _check(lm, text, tokenizer, model, kept)
    with atomic_folder(target) as place:
        write_model(model, tokenizer, place, max_shard_size, lm.source)
    before, after = (sum(p.nbytes for p in one.parameters()) for one in (lm.model, model))
    return Pruned(target, len(lm.tokenizer), len(kept), before, after)


def _kept(tokenizer: PreTrainedTokenizerBase, state: dict[str, Any], corpus: Sequence[str]) -> list[int]:
    """Return the sorted ids to keep: tokens of the corpus, alone and in a chat, those they are merged from, bytes and added tokens."""
    chats = [[{"role": "user", "content": text}, {"role": "assistant", "content": text}] for text in corpus]
    texts = [*corpus, *(str(apply_chat_template(tokenizer, chat, tokenize=False)) for chat in chats)]
    numbers, names = state["model"]["vocab"], set(ByteLevel.alphabet()) | _BYTES | {state["model"].get("unk_token")}
    by_number = {number: name for name, number in numbers.items()}
    for text in texts:
        names.update(by_number.get(number, "") for number in tokenizer(text, add_special_tokens=False)["input_ids"])
    for first, second in reversed(_merges(state)):
        if first + second in names:
            names |= {first, second}
    return sorted({numbers[name] for name in names if name in numbers} | {token["id"] for token in state["added_tokens"]})


def _merges(state: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in state["model"]["merges"])
    return [(first, second) for first, second in pairs]


def _smaller_tokenizer(tokenizer: PreTrainedTokenizerBase, state: dict[str, Any], kept: list[int]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with only the kept tokens, renumbered."""
    new_ids = {old: new for new, old in enumerate(kept)}
    smaller = copy.deepcopy(state)
    vocabulary = {name: new_ids[number] for name, number in state["model"]["vocab"].items() if number in new_ids}
    smaller["model"]["vocab"] = vocabulary
    smaller["model"]["merges"] = [list(pair) for pair in _merges(state) if {*pair, "".join(pair)} <= vocabulary.keys()]
    for token in smaller["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    _renumber(smaller.get("post_processor") or {}, new_ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(smaller)),
        chat_template=tokenizer.chat_template,
        padding_side="left",
        **tokenizer.special_tokens_map,
    )


def _renumber(processor: dict[str, Any], new_ids: Mapping[int, int]) -> None:
    """Renumber the tokens that a post-processor puts around a text; it may consist of several processors."""
    for part in processor.get("processors", ()):
        _renumber(part, new_ids)
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [new_ids[number] for number in token["ids"]]
    for end in {"sep", "cls"} & processor.keys():
        token, number = processor[end]
        processor[end] = [token, new_ids[number]]


def _smaller_model(model: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
    """Return a copy of the model with only these rows of embedding and head."""
    smaller = copy.deepcopy(model)
    rows = torch.tensor(kept, device=model.device)
    parts = {id(part): part for part in (smaller.get_input_embeddings(), smaller.get_output_embeddings()) if part is not None}
    cut: dict[int, torch.nn.Parameter] = {}
    for part in parts.values():
        for name, parameter in list(part.named_parameters(recurse=False)):
            fewer = cut.setdefault(id(parameter), torch.nn.Parameter(parameter.detach()[rows].clone(), requires_grad=False))
            setattr(part, name, fewer)  # tied weights stay tied
        for size in ("num_embeddings", "out_features"):
            if hasattr(part, size):
                setattr(part, size, len(kept))
        if getattr(part, "padding_idx", None) is not None:
            part.padding_idx = kept.index(part.padding_idx)
    smaller.config.get_text_config().vocab_size = len(kept)
    for config in (smaller.config, smaller.generation_config):
        for name in _IDS:
            setattr(config, name, _renumbered(getattr(config, name, None), kept))
    return smaller


def _renumbered(number: Any, kept: list[int]) -> Any:
    if isinstance(number, list):
        return [kept.index(one) for one in number if one in kept] or None
    return kept.index(number) if number in kept else None


def _check(lm: LanguageModel, text: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, kept: list[int]) -> None:
    """Refuse a smaller tokenizer and model that read a text differently."""
    before, after = (one(text)["input_ids"][: lm.context] for one in (lm.tokenizer, tokenizer))
    good = [kept[number] for number in after] == before and tokenizer.decode(after) == lm.tokenizer.decode(before)
    if good and before:
        with torch.inference_mode():
            whole = lm.model(input_ids=torch.tensor([before], device=model.device)).logits[..., kept]
            fewer = model(input_ids=torch.tensor([after], device=model.device)).logits
        close = max(_CLOSE, _STEPS * torch.finfo(whole.dtype).eps)
        good = bool((whole - fewer).abs().max() <= close * whole.abs().max())
    if not good:
        raise NbtuneError(f"With fewer tokens {text[:60]!r} would be read differently: nothing was written.")
