"""Turns a transformers folder into a GGUF file with llama.cpp's own converter, and writes Ollama's Modelfile beside it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from nbtune.errors import NbtuneError

__all__ = ["GGUF", "check_tokenizer", "find_converter", "modelfile", "read_gguf", "write_gguf"]

GGUF = "model.gguf"
_SCRIPT, _HOME = "convert_hf_to_gguf.py", "LLAMA_CPP"
_PACKAGES = ("gguf", "sentencepiece")  # what the converter imports besides transformers
_SYSTEM, _PROMPT, _REPLY = "<<system>>", "<<prompt>>", "<<reply>>"  # stand for what is said, to find what a template puts around it


def find_converter() -> Path:
    """Return llama.cpp's converter: from the folder that ``LLAMA_CPP`` names, or from the path.

    Raises
    ------
    NbtuneError
        When it is not there, or a package that it needs.
    """
    home = os.environ.get(_HOME)
    found = Path(home).expanduser() / _SCRIPT if home else Path(shutil.which(_SCRIPT) or "")
    if not found.is_file():
        raise NbtuneError(
            f"GGUF needs llama.cpp's {_SCRIPT}: git clone https://github.com/ggml-org/llama.cpp, pip install {' '.join(_PACKAGES)}, "
            f"and set the environment variable {_HOME} to that folder."
        )
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise NbtuneError(f"GGUF needs {' and '.join(missing)}: pip install {' '.join(missing)}.")
    return found


def check_tokenizer(converter: Path, folder: Path) -> None:
    """Refuse a tokenizer that llama.cpp does not know, or would read text with otherwise than transformers does.

    Parameters
    ----------
    converter
        As `find_converter` returns it.
    folder
        With configuration and tokenizer, without weights; what the converter writes of them goes there, too.

    Raises
    ------
    NbtuneError
        When the converter refuses, or gives all pieces the same score: it does so where SentencePiece's file is missing, and llama.cpp,
        which merges by score, would cut words elsewhere.
    """
    from gguf import GGUFReader

    _convert(converter, folder, folder / GGUF, "--vocab-only")
    fields = GGUFReader(folder / GGUF).fields
    scores = fields.get("tokenizer.ggml.scores")
    if scores is not None and len({float(scores.parts[at][0]) for at in scores.data}) == 1:
        raise NbtuneError(
            "The model came without the tokenizer.model of its SentencePiece tokenizer, and llama.cpp would cut text into other pieces: "
            "put the file of the original model into its folder, and load it again."
        )


def write_gguf(converter: Path, source: Path, folder: Path) -> None:
    """Convert a transformers folder.

    Parameters
    ----------
    converter
        As `find_converter` returns it.
    source
        The transformers folder.
    folder
        Where the file goes.

    Raises
    ------
    NbtuneError
        When the converter refuses, with its last line.
    """
    _convert(converter, source, folder / GGUF)


def read_gguf(folder: Path) -> PreTrainedModel:
    """Read the file back, in single precision."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype="float32")
    return model.eval().requires_grad_(False)


def modelfile(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a Modelfile: greedy by default, and the chat template as Ollama writes one.

    Parameters
    ----------
    tokenizer
        Its chat template is asked for what it puts around what is said.
    """
    before, after = _written(tokenizer, ("user", _PROMPT)).split(_PROMPT)
    # What closes a reply shows where another round follows.
    rounds = _written(tokenizer, ("user", _PROMPT), ("assistant", _REPLY), ("user", _PROMPT))
    end = tokenizer.eos_token or ""
    closing = rounds.split(_REPLY)[1].split(_PROMPT)[0].removesuffix(before) if _REPLY in rounds else end
    template = _system(tokenizer, before) + "{{ if .Prompt }}" + before + "{{ .Prompt }}" + after + "{{ end }}{{ .Response }}" + closing
    stop = f'PARAMETER stop "{end}"\n' if end else ""
    return f'FROM ./{GGUF}\nTEMPLATE """{template}"""\nPARAMETER temperature 0\n{stop}'


def _convert(converter: Path, source: Path, target: Path, *options: str) -> None:
    command = [sys.executable, str(converter), str(source), "--outfile", str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's own llama.cpp
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise NbtuneError(f"llama.cpp's converter refused: {reason}")


def _system(tokenizer: PreTrainedTokenizerBase, before: str) -> str:
    """Return the part of a template that writes the system prompt; empty where it has none, or refuses one."""
    try:
        around = _written(tokenizer, ("system", _SYSTEM), ("user", _PROMPT)).split(_PROMPT)[0]
    except TemplateError:
        return ""
    if _SYSTEM not in around or not around.endswith(before):
        return ""
    return "{{ if .System }}" + around.removesuffix(before).replace(_SYSTEM, "{{ .System }}") + "{{ end }}"


def _written(tokenizer: PreTrainedTokenizerBase, *turns: tuple[str, str]) -> str:
    """Return a chat as the template writes it before a reply, without the token that llama.cpp itself puts first."""
    chat = [{"role": role, "content": text} for role, text in turns]
    written = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    return written.removeprefix(tokenizer.bos_token or "")
