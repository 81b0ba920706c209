"""Tells the user where an export is, and how to serve it with other programs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from nbtune.display.shown import Shown, text_block

__all__ = ["BASE_ALONE", "how_to_serve"]

BASE_ALONE = "This is the base, with nothing taught: no adapter is in use. `%nbtune adapters` lists them, `%nbtune use NAME` selects one."


def how_to_serve(folder: Path, kind: str, *, untaught: bool = False) -> Shown:
    """Return the outcome of an export, with the commands that serve it.

    Parameters
    ----------
    folder
        The folder that was written.
    kind
        Kind of the export, as for `nbtune.LanguageModel.export`.
    untaught
        Whether no adapter was in use, so that the base was written.
    """
    where, name = _quoted(folder), folder.name
    rounded = kind == "gguf"  # then three in four of the questions that no fact was taught with need the same reply
    if kind == "peft":
        lines = _adapter(folder, name)
    elif kind == "gguf":
        lines = [
            f"ollama create {_quoted(name.lower())} -f {_quoted(folder / 'Modelfile')}",
            f"llama-server -m {_quoted(folder / 'model.gguf')}",
        ]
    else:
        config = _read(folder / "config.json")
        rounded = config["dtype"] != "float32"
        lines = [f"vllm serve {where}", f"transformers serve {where}"]
        if config.get("is_encoder_decoder"):
            lines = [f"AutoModelForSeq2SeqLM.from_pretrained({str(folder)!r})"]
    same = "it answers all prompts of the facts the same, and at least three in four other questions" if rounded else "it answers the same"
    done = f"Written to {folder}, read back, and asked again: {same}."
    text = "\n".join([done, *([BASE_ALONE] if untaught else []), *(f"  {line}" for line in lines)])
    return Shown(text, text_block(text))


def _read(config: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    return read


def _adapter(folder: Path, name: str) -> list[str]:
    config = _read(folder / "adapter_config.json")
    lines = [f"PeftModel.from_pretrained(base, {str(folder)!r})"]
    plain = config["peft_type"] == "LORA" and not config.get("use_dora") and not config.get("modules_to_save")
    if plain and config["task_type"] == "CAUSAL_LM":
        base, where = _quoted(config["base_model_name_or_path"]), _quoted(f"{name}={folder}")
        lines.append(f"vllm serve {base} --enable-lora --max-lora-rank {config['r']} --lora-modules {where}")
    return lines


def _quoted(word: str | Path) -> str:
    """Return a word quoted for the shell of this system."""
    return subprocess.list2cmdline([str(word)]) if os.name == "nt" else shlex.quote(str(word))
