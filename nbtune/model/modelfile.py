"""Writes Ollama's Modelfile for a GGUF file: the chat template in Ollama's syntax, and the texts that end a reply."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from nbtune.chat_template import apply_chat_template
from nbtune.errors import NbtuneError

__all__ = ["modelfile"]

_SYSTEM, _PROMPT, _REPLY = "<<system>>", "<<prompt>>", "<<reply>>"  # placeholders, to find what a template writes around messages


def modelfile(tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], file: str) -> str:
    """Return the text of a Modelfile, with greedy replies as the default.

    Parameters
    ----------
    tokenizer
        Tokenizer whose chat template is converted; placeholders show what it writes around messages.
    ends
        The tokens that end a reply.
    file
        Name of the GGUF file in the same folder.
    """
    before, after = _text(tokenizer, ("user", _PROMPT)).split(_PROMPT)
    rounds = _text(tokenizer, ("user", _PROMPT), ("assistant", _REPLY), ("user", _PROMPT))
    earlier, between = rounds.split(_PROMPT)[1].split(_REPLY) if _REPLY in rounds else (after, tokenizer.eos_token or "")
    closing, opening = _parted(tokenizer, between, before)
    reply = after if earlier == after else f"{{{{ if eq (len (slice $.Messages $at)) 1 }}}}{after}{{{{ else }}}}{earlier}{{{{ end }}}}"
    template = (
        _system(tokenizer, before.removesuffix(opening), opening)
        + '{{ range $at, $_ := .Messages }}{{ if eq .Role "user" }}'
        + f"{opening}{{{{ .Content }}}}{reply}"
        + '{{ else if eq .Role "assistant" }}'
        + f"{{{{ .Content }}}}{closing}"
        + "{{ end }}{{ end }}"
    )
    stops = [f'PARAMETER stop "{tokenizer.decode([end])}"' for end in ends]
    return "\n".join([f"FROM ./{file}", f'TEMPLATE """{template}"""', "PARAMETER temperature 0", *stops]) + "\n"


def _parted(tokenizer: PreTrainedTokenizerBase, between: str, before: str) -> tuple[str, str]:
    """Split the text between a reply and the next question into the end of the reply and the opening of the question."""
    # If a template writes more before the first question than before others, the end of the last reply shows where to split.
    last = _text(tokenizer, ("user", _PROMPT), ("assistant", _REPLY), add_generation_prompt=False).split(_REPLY)[-1]
    opening = between.removeprefix(last)
    if not between.endswith(before) and between.startswith(last) and before.endswith(opening):
        return last, opening
    return between.removesuffix(before), before


def _system(tokenizer: PreTrainedTokenizerBase, unasked: str, opening: str) -> str:
    """Return the part of the template before the first question, with and without a system prompt.

    Parameters
    ----------
    tokenizer
        Tokenizer whose chat template may ignore or refuse a system prompt.
    unasked
        Text before the first question if there is no system prompt.
    opening
        Text that opens a question.
    """
    try:
        around = _text(tokenizer, ("system", _SYSTEM), ("user", _PROMPT)).split(_PROMPT)[0]
    except NbtuneError:
        return unasked
    if _SYSTEM not in around or not around.endswith(opening):
        return unasked
    asked = around.removesuffix(opening).replace(_SYSTEM, "{{ .System }}")
    return "{{ if .System }}" + asked + (f"{{{{ else }}}}{unasked}" if unasked else "") + "{{ end }}"


def _text(tokenizer: PreTrainedTokenizerBase, *turns: tuple[str, str], add_generation_prompt: bool = True) -> str:
    """Return a chat as the template writes it, without the token that begins a text, which llama.cpp adds itself."""
    chat = [{"role": role, "content": text} for role, text in turns]
    text = str(apply_chat_template(tokenizer, chat, tokenize=False, add_generation_prompt=add_generation_prompt))
    return text.removeprefix(tokenizer.bos_token or "")
