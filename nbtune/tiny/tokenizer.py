"""Builds the built-in model's tokenizer: byte-level BPE for Chinese and English, with a chat template."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from nbtune.tiny.names import common_han

__all__ = ["CHAT_TEMPLATE", "CONTEXT", "build_tokenizer", "name_pieces"]

VOCABULARY = 6144
CONTEXT = 512
_PAD, _END, _SYSTEM, _USER, _ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == "assistant" -%}
<|assistant|>{% generation %}{{ message.content }}<|end|>{% endgeneration %}
{%- else -%}
{{ "<|" + message.role + "|>" + message.content + "<|end|>" }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% endif -%}
"""

# Every space, Chinese character, digit and mark is a piece of its own, so that a name has the same
# tokens wherever it appears; this lets a small model copy names faithfully.
_PIECES = Regex(r"\s|\p{N}|\p{Han}|[\p{Latin}]+|[^\s\p{N}\p{Han}\p{Latin}]")


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer, and return it with its chat template.

    Parameters
    ----------
    texts
        Texts to learn merges from.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_PIECES, behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    special = [_PAD, _END, _SYSTEM, _USER, _ASSISTANT]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every everyday character becomes one token, even if the corpus does not use it.
    han = "".join(common_han())
    core.train_from_iterator([*texts, *([han] * 20)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=_PAD,
        eos_token=_END,
        extra_special_tokens=[_SYSTEM, _USER, _ASSISTANT],
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def name_pieces(tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """Return the vocabulary entries made of Latin letters, which invented names are also built from."""
    decoded = (tokenizer.decode([token]) for token in range(len(tokenizer)))
    return tuple(sorted({piece for piece in decoded if piece.isascii() and piece.isalpha()}))
