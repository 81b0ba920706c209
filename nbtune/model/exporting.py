"""Writes models and adapters to folders that other programs read; what is half-written is never in its place."""

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

__all__ = ["ADAPTER_WEIGHTS", "check_folder", "placed", "read_adapter", "write_adapter", "write_beside", "write_model"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # PEFT's name for it


def check_folder(folder: str | Path) -> Path:
    """Return the path of a folder to write to.

    Raises
    ------
    NbtuneError
        When it is the working folder, holds something already, or can't be written to.
    """
    target = given_path(folder).resolve()
    if target == Path.cwd():
        raise NbtuneError("The folder to write to is the one that the notebook runs in: give a new folder.")
    check_writable(target.parent)
    try:
        empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    except OSError as error:
        raise NbtuneError(f"{target} can't be read ({disk_reason(error)}): give a new folder.") from None
    if not empty:
        raise NbtuneError(f"{target} is not empty: give a new folder.")
    return target


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Give a folder to write to, and put it in place when the block ends well.

    Parameters
    ----------
    target
        As `check_folder` returns it.

    Raises
    ------
    NbtuneError
        When the disk refuses. There is nothing in place then, and nothing is left behind.
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
            with suppress(OSError):  # it is not empty: all went well
                parent.rmdir()


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, max_shard_size: str, source: str) -> None:
    """Write model and tokenizer as a transformers folder.

    Parameters
    ----------
    model, tokenizer
        What to write.
    folder
        Where to.
    max_shard_size
        Largest file of weights, such as ``"2GB"``.
    source
        Where the model came from: code of its own is copied from there, which transformers does not do for a folder.
    """
    write_beside(model, tokenizer, folder, source)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    for weights in folder.glob("*.safetensors"):
        _open_to_readers(weights, folder / "config.json")


def write_beside(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, source: str) -> None:
    """Write what stands beside the weights of a transformers folder; arguments are those of `write_model`."""
    config = copy.copy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tokenizer = copy.copy(tokenizer)
    if THINKING in str(tokenizer.chat_template):  # what was trained and proved did not think, so others shall not ask for it
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
        What to write.
    folder
        Where to.
    """
    adapter.config.save_pretrained(str(folder))
    save_file(adapter.weights, str(folder / ADAPTER_WEIGHTS), metadata={"format": "pt"})
    _open_to_readers(folder / ADAPTER_WEIGHTS, folder / "adapter_config.json")


def _open_to_readers(weights: Path, beside: Path) -> None:
    """Let whoever may read the file beside them read the weights, too: safetensors writes them for their owner alone."""
    with suppress(OSError):  # a disk may have no such thing, or let its owner alone say
        shutil.copymode(beside, weights)


def read_adapter(folder: Path) -> Adapter:
    """Read what `write_adapter` wrote."""
    import_modules(["peft"])
    from peft import PeftConfig

    return Adapter(PeftConfig.from_pretrained(str(folder)), load_file(str(folder / ADAPTER_WEIGHTS)))
