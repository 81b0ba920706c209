"""Finds the model that a source names, and before reading its weights refuses one that does not reply or can't be taught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig

from nbtune.errors import NbtuneError, disk_reason, first_line
from nbtune.paths import given_path
from nbtune.tiny import BUILT_IN, WEIGHTS

__all__ = ["read_config", "resolve_source"]

_UNSUPPORTED = {
    "cpmant": "a CPM-Ant, which reads each token with those after it: it would copy an answer, not learn it",
    "rwkv": "an RWKV, whose class in transformers reads the padding of a batch as text",
}
_ENCODED = ("t5", "mt5", "umt5")  # families with an encoder


def resolve_source(source: str | Path) -> str:
    """Return the folder or hub id to read a model from.

    Parameters
    ----------
    source
        ``"tiny"``, a folder, or a hub id.

    Raises
    ------
    NbtuneError
        When the folder is missing, or has no weights that can be read safely.
    """
    name, folder = str(source), WEIGHTS if str(source) == BUILT_IN else given_path(source)
    try:
        if folder.is_dir():
            _check_folder(folder)
            return str(folder)
    except OSError as error:
        raise NbtuneError(f"{folder} can't be read ({disk_reason(error)}).") from None
    if folder.is_file():
        raise NbtuneError(f"{folder} is a file: give the folder it is in.")
    if name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1 or name == BUILT_IN:
        raise NbtuneError(f"No model folder {name!r}. Give an existing folder, a hub id such as Qwen/Qwen3-0.6B, or tiny.")
    return name


def read_config(name: str, place: str, shared: dict[str, Any]) -> PreTrainedConfig:
    """Return a model's configuration, after checking that it replies and can be taught.

    Parameters
    ----------
    name
        Name that the user gave.
    place
        Folder or hub id, from `resolve_source`.
    shared
        Arguments for transformers: the revision, and whether code that comes with the model may run.

    Raises
    ------
    NbtuneError
        When there is no configuration, it needs code that may not run, or the model does not reply or can't be taught to.
    """
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(place, **shared)
    except Exception as error:  # of many kinds: from the disk, the network, the content of the file
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            reason = _own_code(place, shared["revision"])
        here = "" if Path(place).is_dir() else "no such folder, and loading it from the hub failed: "
        raise NbtuneError(f"Can't load {name}: {here}{reason.rstrip('.')}.") from error
    _check_kind(name, config)
    return config


def _check_folder(folder: Path) -> None:
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise NbtuneError(f"{folder} holds an adapter, not a model. Load its base model first, then `%nbtune use NAME`.")
    if not (folder / "config.json").exists():
        raise NbtuneError(f"{folder} is not a model folder: it has no config.json.")
    if not list(folder.glob("*.safetensors")):
        pickled = [path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth"))]
        if pickled:
            raise NbtuneError(
                f"{folder} has only pickled weights ({pickled[0]}), which can run code when opened. "
                "Convert them to safetensors: model.save_pretrained(FOLDER) with a recent transformers."
            )
        raise NbtuneError(f"{folder} has no weights: expected model.safetensors.")


def _own_code(place: str, revision: str | None) -> str:
    """Return advice for the user on a model that comes with its own code."""
    if PreTrainedConfig.get_config_dict(place, revision=revision)[0].get("model_type") == "chatglm":
        return (
            "the code that comes with ChatGLM does not run with current transformers. Take its successor in transformers' own "
            "layout, such as zai-org/glm-4-9b-chat-hf, or for ChatGLM2 and 3 an old environment (transformers 4.33)"
        )
    return "it needs code that comes with it. If you trust its authors: nbtune.load(NAME, trust_remote_code=True) in plain Python"


def _check_kind(name: str, config: PreTrainedConfig) -> None:
    """Refuse a model that does not reply, or can't be taught to."""
    if config.model_type in _UNSUPPORTED:
        raise NbtuneError(f"{name} is {_UNSUPPORTED[config.model_type]}.")
    classes = config.architectures or []
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING  # keys() would import every model of transformers
    if remote or (causal and (not classes or any("CausalLM" in c or "LMHead" in c for c in classes))):
        return
    if config.model_type in _ENCODED and (not classes or any("ForConditionalGeneration" in c for c in classes)):
        return
    raise NbtuneError(f"{name} is not a causal language model but {', '.join(classes) or config.model_type}.")
