"""Writes a merged model as a plain transformers folder."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbtune.errors import NbtuneError

__all__ = ["check_folder", "write_folder"]


def check_folder(folder: str | Path) -> Path:
    """Return the path of a folder to write to.

    Raises
    ------
    NbtuneError
        When it holds something already.
    """
    target = Path(folder).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NbtuneError(f"{target} is not empty: give a new folder.")
    return target


def write_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> Path:
    """Write model and tokenizer; a rename puts the finished folder in place.

    Parameters
    ----------
    model, tokenizer
        What to write.
    folder
        A new or empty folder.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    NbtuneError
        When the folder holds something already, or the disk refuses.
    """
    target = check_folder(folder)
    written = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        model.save_pretrained(written)
        tokenizer.save_pretrained(written)
        if target.exists():
            target.rmdir()
        written.rename(target)
    except (OSError, SafetensorError) as error:
        raise NbtuneError(f"{target} could not be written ({getattr(error, 'strerror', None) or error}).") from None
    finally:
        shutil.rmtree(written, ignore_errors=True)
    return target
