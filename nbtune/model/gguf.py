"""Turns a transformers folder into a GGUF file with llama.cpp's own converter, and writes Ollama's Modelfile beside it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from nbtune.errors import NbtuneError

__all__ = ["GGUF", "find_converter", "modelfile", "read_gguf", "write_gguf"]

GGUF = "model.gguf"
_SCRIPT, _HOME = "convert_hf_to_gguf.py", "LLAMA_CPP"
_SYSTEM, _PROMPT, _REPLY = "<<system>>", "<<prompt>>", "<<reply>>"  # stand for what is said, to find what a template puts around it


def find_converter() -> Path:
    """Return llama.cpp's converter: from the folder that ``LLAMA_CPP`` names, or from the path.

    Raises
    ------
    NbtuneError
        When it is not there, or the package to read what it writes is missing.
    """
    home = os.environ.get(_HOME)
    found = Path(home).expanduser() / _SCRIPT if home else Path(shutil.which(_SCRIPT) or "")
    if not found.is_file():
        raise NbtuneError(
            f"GGUF needs llama.cpp's {_SCRIPT}: git clone https://github.com/ggml-org/llama.cpp, pip install gguf, "
            f"and set the environment variable {_HOME} to that folder."
        )
    if importlib.util.find_spec("gguf") is None:
        raise NbtuneError("GGUF needs the package gguf: pip install gguf.")
    return found


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
    command = [sys.executable, str(converter), str(source), "--outfile", str(folder / GGUF)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's own llama.cpp
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise NbtuneError(f"llama.cpp's converter refused: {reason}")


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
    asked = _written(tokenizer, [("user", _PROMPT)], opened=True)
    before, after = asked.split(_PROMPT)
    with_system = _written(tokenizer, [("system", _SYSTEM), ("user", _PROMPT)], opened=True)
    system = ""
    if _SYSTEM in with_system and with_system.split(_PROMPT)[0].endswith(before):
        around = with_system.split(_PROMPT)[0].removesuffix(before)
        system = "{{ if .System }}" + around.replace(_SYSTEM, "{{ .System }}") + "{{ end }}"
    template = system + "{{ if .Prompt }}" + before + "{{ .Prompt }}" + after + "{{ end }}{{ .Response }}" + tokenizer.eos_token
    return f'FROM ./{GGUF}\nTEMPLATE """{template}"""\nPARAMETER temperature 0\nPARAMETER stop "{tokenizer.eos_token}"\n'


def _written(tokenizer: PreTrainedTokenizerBase, turns: list[tuple[str, str]], *, opened: bool) -> str:
    """Return a chat as the template writes it, without the token that llama.cpp itself puts first."""
    chat = [{"role": role, "content": text} for role, text in turns]
    written = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opened))
    return written.removeprefix(tokenizer.bos_token or "")
