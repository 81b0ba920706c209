"""Puts a folder on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from nbtune.errors import NbtuneError, first_line

__all__ = ["check_hub", "upload"]

_NO_ANSWER = HfHubHTTPError.__bases__[0]  # of what the hub's client is built on, which is httpx, or httpx2

# Of an upload before: other shards, or another kind, that would be read in place of what is put there now.
# Only what nbtune itself writes there: other files of the repository are the user's.
_WRITTEN = [
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "model.gguf",
    "Modelfile",
]


def check_hub(name: str) -> None:
    """Refuse what can't be pushed to, before any work.

    Raises
    ------
    NbtuneError
        When the name is none, nobody is logged in, or the hub can't be reached.
    """
    try:
        validate_repo_id(name)
        fits = name.count("/") == 1
    except HFValidationError:
        fits = False
    if not fits:
        raise NbtuneError(f"{name!r} can't name a model on the hub: expected OWNER/NAME.")
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError:
        raise NbtuneError("Nobody is logged in to the hub: run `hf auth login` in a terminal, or set HF_TOKEN.") from None
    except OfflineModeIsEnabled:
        raise NbtuneError("The hub is switched off by HF_HUB_OFFLINE: unset it, and restart the kernel.") from None
    except (HfHubHTTPError, _NO_ANSWER, OSError) as error:
        raise NbtuneError(f"The hub did not answer ({first_line(error)}).") from None


def upload(folder: Path, name: str, *, private: bool) -> str:
    """Make the repository where there is none, and put the folder's files there in one commit.

    Parameters
    ----------
    folder
        What to upload.
    name
        OWNER/NAME.
    private
        Whether a new repository is private.

    Returns
    -------
    str
        Its address.

    Raises
    ------
    NbtuneError
        When the hub refuses.
    """
    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by nbtune", delete_patterns=_WRITTEN)
    except (HfHubHTTPError, _NO_ANSWER, OSError, ValueError) as error:  # the last for a model card that it does not take
        raise NbtuneError(f"The hub refused {name}: {first_line(error)}") from None
    return str(address)
