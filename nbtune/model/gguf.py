"""Writes a model as a GGUF file with llama.cpp's own converter, and reads it back."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import cached_file

from nbtune.errors import NbtuneError, disk_reason, first_line
from nbtune.model.exporting import write_config_and_tokenizer, write_model
from nbtune.model.loading import LoadedModel

__all__ = ["GGUF", "check_tokenizer", "find_converter", "read_gguf", "write_gguf"]

GGUF = "model.gguf"
_SCRIPT, _HOME = "convert_hf_to_gguf.py", "LLAMA_CPP"
_PIECES, _SPACE = "tokenizer.model", "\u2581"  # SentencePiece's name for its file, and its character for a space
_SHARDS = "5GB"  # for the converter's input; its output is one file
_PACKAGES = ("gguf", "sentencepiece")  # imported by the converter besides transformers


def find_converter() -> Path:
    """Return the path of llama.cpp's converter: from the folder in ``LLAMA_CPP`` if that is set, else from ``PATH``.

    Raises
    ------
    NbtuneError
        When the converter, or a package that it needs, is missing.
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


def check_tokenizer(converter: Path, loaded: LoadedModel) -> None:
    """Refuse a model whose tokenizer llama.cpp does not know, or with which it would tokenize text differently.

    Parameters
    ----------
    converter
        Path of the converter, from `find_converter`.
    loaded
        The model; its weights are not read.

    Raises
    ------
    NbtuneError
        When the converter refuses the tokenizer, or transformers can't read back what the converter writes. Also when the converter
        changes the text of a token, or gives all SentencePiece pieces the same score. It does the latter if ``tokenizer.model`` is
        missing; llama.cpp, which merges by score, would then split words at other places.
    """
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            write_config_and_tokenizer(loaded.model, loaded.tokenizer, Path(place), loaded.place)
            _add_pieces(loaded, Path(place))
            _convert(converter, Path(place), Path(place) / GGUF, "--vocab-only")
            AutoConfig.from_pretrained(place, gguf_file=GGUF)
            tokens, scores = _pieces(Path(place) / GGUF)
    except ValueError as error:
        raise NbtuneError(f"transformers can't read a GGUF of this model back to test it: {first_line(error)}") from None
    except OSError as error:
        raise NbtuneError(f"The tokenizer could not be written for llama.cpp's converter ({disk_reason(error)}).") from None
    if not tokens:
        return
    if len(set(scores)) == 1:
        raise NbtuneError(
            f"The model lacks the {_PIECES} of its SentencePiece tokenizer, without which llama.cpp would split text differently: "
            "put the original into its folder, and load it again."
        )
    for number, token in enumerate(loaded.tokenizer.convert_ids_to_tokens(range(len(loaded.tokenizer)))):
        found = tokens[number] if number < len(tokens) else ""
        if token is not None and found.replace(_SPACE, " ") != token.replace(_SPACE, " "):
            raise NbtuneError(f"llama.cpp would read token {number}, {token!r}, as {found!r}: is the {_PIECES} from another model?")


def write_gguf(converter: Path, merged: PreTrainedModel, loaded: LoadedModel, folder: Path) -> None:
    """Write a model as one GGUF file.

    Parameters
    ----------
    converter
        Path of the converter, from `find_converter`.
    merged
        The model to write.
    loaded
        The loaded model that `merged` was made from.
    folder
        Folder for the file; twice the disk space of the file is needed while it is written.

    Raises
    ------
    NbtuneError
        When the converter refuses the model; the message has the last line of its output.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        write_model(merged, loaded.tokenizer, Path(place), _SHARDS, loaded.place)
        _add_pieces(loaded, Path(place))
        _convert(converter, Path(place), folder / GGUF)


def read_gguf(folder: Path) -> PreTrainedModel:
    """Read the GGUF file in a folder back, in single precision.

    Raises
    ------
    NbtuneError
        When transformers can't read the file, as happens when attention heads are not of the family's usual size: transformers
        then expects a model of another shape.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype="float32")
    except (ValueError, RuntimeError) as error:
        raise NbtuneError(f"transformers can't read the GGUF back to test it: {first_line(error)}") from None
    return model.eval().requires_grad_(False)


def _add_pieces(loaded: LoadedModel, folder: Path) -> None:
    """Add the model file and the added tokens of a SentencePiece tokenizer to a written one: transformers writes neither."""
    try:
        found = cached_file(loaded.place, _PIECES, revision=loaded.revision)
    except OSError:  # most tokenizers have no such file
        return
    shutil.copy(str(found), folder / _PIECES)
    path = folder / "tokenizer_config.json"
    added = {
        number: {"content": token.content, "special": token.special} for number, token in loaded.tokenizer.added_tokens_decoder.items()
    }
    config = {**json.loads(path.read_text(encoding="utf-8")), "added_tokens_decoder": added}
    path.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")


def _convert(converter: Path, source: Path, target: Path, *options: str) -> None:
    command = [sys.executable, str(converter), str(source), "--outfile", str(target), *options]
    done = subprocess.run(  # noqa: S603 - the user's own llama.cpp
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise NbtuneError(f"llama.cpp's converter failed: {reason}")


def _pieces(file: Path) -> tuple[list[str], list[float]]:
    """Return the pieces and the scores of the SentencePiece tokenizer in a GGUF file; empty for any other tokenizer."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    kind = fields["tokenizer.ggml.model"]
    if bytes(kind.parts[kind.data[0]]) != b"llama":
        return [], []
    tokens, scores = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"]
    return [bytes(tokens.parts[at]).decode() for at in tokens.data], [float(scores.parts[at][0]) for at in scores.data]
