"""Writes models and adapters to folders that other programs read, never leaving a half-written folder in place."""

from __future__ import annotations

import copy
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbtune.chat_template import THINKING
from nbtune.errors import NbtuneError, disk_reason
from nbtune.imports import import_modules
from nbtune.model.adapter import Adapter
from nbtune.paths import check_writable, given_path

__all__ = ["ADAPTER_WEIGHTS", "atomic_folder", "check_folder", "read_adapter", "write_adapter", "write_config_and_tokenizer", "write_model"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # PEFT's name for the file


def check_folder(folder: str | Path) -> Path:
    """Return the absolute path of a folder to write to, after checking that it is new or empty.

    Raises
    ------
    NbtuneError
        When the folder is the working folder, is not empty, or can't be written to.
    """
    target = given_path(folder).resolve()
    if target == Path.cwd():
        raise NbtuneError("Can't write to the folder that the notebook runs in: give a new folder.")
    check_writable(target.parent)
    try:
        empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    except OSError as error:
        raise NbtuneError(f"{target} can't be read ({disk_reason(error)}): give a new folder.") from None
    if not empty:
        raise NbtuneError(f"{target} is not empty: give a new folder.")
    return target


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder to write to, and rename it to `target` when the block succeeds.

    Parameters
    ----------
    target
        A folder as `check_folder` returns it.

    Raises
    ------
    NbtuneError
        When writing fails. Nothing is at `target` then, and nothing is left behind.
    """
    written = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        written.mkdir(parents=True)
        yield written
        if target.exists():
            target.rmdir()
        written.rename(target)
    except (OSError, SafetensorError) as error:
        raise NbtuneError(f"{target} could not be written ({disk_reason(error)}).") from None
    finally:
        shutil.rmtree(written, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # not empty: writing succeeded
                parent.rmdir()


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, max_shard_size: str, source: str) -> None:
    """Write a model and its tokenizer as a transformers folder.

    Parameters
    ----------
    model, tokenizer
        The model and the tokenizer to write.
    folder
        Folder to write to.
    max_shard_size
        Size limit of each weights file, such as ``"2GB"``.
    source
        Folder or hub id of the original model. If it is a folder, the model's own code is copied from there, which transformers
        does not do.
    """
    write_config_and_tokenizer(model, tokenizer, folder, source)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    for weights in folder.glob("*.safetensors"):
        _open_to_readers(weights, folder / "config.json")


def write_config_and_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, source: str) -> None:
    """Write everything except the weights of a transformers folder; the arguments are those of `write_model`."""
    config = copy.copy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tokenizer = copy.copy(tokenizer)
    if THINKING in str(tokenizer.chat_template):  # trained and proved without thinking, so other programs must not ask for it
        tokenizer.chat_template = f"{{% set {THINKING} = false %}}{tokenizer.chat_template}"
    tokenizer.save_pretrained(folder)
    if getattr(config, "auto_map", None) and Path(source).expanduser().is_dir():
        for code in Path(source).expanduser().glob("*.py"):
            shutil.copy(code, folder)


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Write an adapter as a PEFT folder.

    Parameters
    ----------
    adapter
        The adapter to write.
    folder
        Folder to write to.
    """
    adapter.config.save_pretrained(str(folder))
    save_file(adapter.weights, str(folder / ADAPTER_WEIGHTS), metadata={"format": "pt"})
    _open_to_readers(folder / ADAPTER_WEIGHTS, folder / "adapter_config.json")


def _open_to_readers(weights: Path, beside: Path) -> None:
    """Give the weights the permissions of the file beside them: safetensors lets only their owner read them."""
    with suppress(OSError):  # a file system may have no permissions, or let only the owner change them
        shutil.copymode(beside, weights)


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter that `write_adapter` wrote."""
    import_modules(["peft"])
    from peft import PeftConfig

    return Adapter(PeftConfig.from_pretrained(str(folder)), load_file(str(folder / ADAPTER_WEIGHTS)))
