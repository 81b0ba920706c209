"""Uploads a folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from nbtune.errors import NbtuneError, first_line

__all__ = ["check_hub", "upload"]

_NO_ANSWER = HfHubHTTPError.__bases__[0]  # HTTPError of the library that the hub's client is built on: httpx or httpx2

# Files of an earlier upload, deleted because they would be read in place of the new ones: other shards, or another format.
# The list holds only what nbtune itself writes: other files in the repository are the user's.
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
    """Refuse a repository that can't be pushed to, before any work is done.

    Raises
    ------
    NbtuneError
        When the name is not of the form OWNER/NAME, nobody is logged in, or the hub is switched off or can't be reached.
    """
    try:
        validate_repo_id(name)
        fits = name.count("/") == 1
    except HFValidationError:
        fits = False
    if not fits:
        raise NbtuneError(f"{name!r} is not a valid name on the hub: expected OWNER/NAME.")
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError:
        raise NbtuneError("You are not logged in to the hub: run `hf auth login` in a terminal, or set HF_TOKEN.") from None
    except OfflineModeIsEnabled:
        raise NbtuneError("The hub is switched off by HF_HUB_OFFLINE: unset it, and restart the kernel.") from None
    except (HfHubHTTPError, _NO_ANSWER, OSError) as error:
        raise NbtuneError(f"The hub did not answer ({first_line(error)}).") from None


def upload(folder: Path, name: str, *, private: bool) -> str:
    """Upload the files of a folder in one commit, creating the repository if necessary.

    Parameters
    ----------
    folder
        Folder to upload.
    name
        Repository, as OWNER/NAME.
    private
        Whether a new repository is private.

    Returns
    -------
    str
        Address of the repository.

    Raises
    ------
    NbtuneError
        When the hub refuses.
    """
    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by nbtune", delete_patterns=_WRITTEN)
    except (HfHubHTTPError, _NO_ANSWER, OSError, ValueError) as error:  # ValueError: a model card that the hub does not accept
        raise NbtuneError(f"The hub refused {name}: {first_line(error)}") from None
    return str(address)
