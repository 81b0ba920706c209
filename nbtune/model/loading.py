"""Loads a language model and its tokenizer from the package, a folder or the hub."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from nbtune.errors import NbtuneError, did_you_mean, first_line
from nbtune.model.fingerprint import fingerprint
from nbtune.tiny import WEIGHTS

__all__ = ["EMBEDDED", "PLAIN_TEMPLATE", "LoadedModel", "load_model", "quiet"]

# Where it is installed it logs a line about an optional package when PEFT imports it, and one for each product in 8 bits.
logging.get_logger("bitsandbytes").setLevel(logging.ERROR)

EMBEDDED = "tiny"
# For a base model, which was never taught a form of chat: the turns as a person would write them down.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}User:\n{{ m.content }}\n\n"
    "{% else %}Assistant:\n{{ m.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
# For a model with an encoder: its kind was never told turns apart.
_PLAIN_ENCODED = "{% for m in messages %}{{ m.content }}{{ eos_token if loop.last else '\n' }}{% endfor %}"
_ENCODED = ("t5", "mt5", "umt5")  # families with an encoder
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_QUANTIZE = ("int8", "nf4")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to answer, with what it was loaded from.

    Its weights never change, so that what it replied to a question, greedily and within so many tokens, is kept in `replies`.
    `fingerprint` names its weights as the checkpoint holds them. `plain` says that the tokenizer came without a chat template
    and was given `PLAIN_TEMPLATE`, or, for a model with an encoder, the turns alone, a line each.
    """

    source: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    plain: bool = False
    replies: dict[tuple[str, int], str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def context(self) -> int:
        """Most tokens, prompt and reply together, that the model was built for."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 2048)

    @property
    def runs_own_code(self) -> bool:
        """Whether it runs code that came with it, which somebody trusted."""
        return type(self.model).__module__.startswith("transformers_modules")


def load_model(
    source: str | Path = EMBEDDED,
    *,
    dtype: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
    revision: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model.

    Parameters
    ----------
    source
        ``"tiny"`` for the embedded model, a local folder, or a hub id such as ``"Qwen/Qwen3-0.6B"``.
    dtype
        ``"float32"``, ``"float16"`` or ``"bfloat16"``. Default: float32 on a CPU, else what the model
        was saved in.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``. Default: a GPU when there is one.
    quantize
        ``"int8"`` or ``"nf4"`` loads the weights in 8 or 4 bits with bitsandbytes.
    revision
        Branch, tag or commit on the hub.
    chat_template
        A Jinja chat template, for a tokenizer that comes without one. Default: a plain one; see `LoadedModel`.
    trust_remote_code
        Run code that comes with the model. No magic ever sets this.

    Raises
    ------
    NbtuneError
        When the folder is missing, holds no language model that replies, has only pickled weights, or an option has an unknown value.
        Nothing is loaded then.
    """
    where = _device(device)
    number_type = _dtype(dtype, where)
    quantization = _quantization(quantize, where)
    name, place = str(source), str(WEIGHTS if str(source) == EMBEDDED else Path(source).expanduser())
    if Path(place).is_dir():
        _check_folder(Path(place))
    elif str(source).startswith((".", "/", "~")) or str(source).count("/") > 1 or name == EMBEDDED:
        raise NbtuneError(f"No model folder {name!r}. Give an existing folder, a hub id such as Qwen/Qwen3-0.6B, or tiny.")
    else:
        place = name
    shared: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = _config(name, place, shared)
    _check_kind(name, config)
    encoded = bool(config.is_encoder_decoder)
    tokenizer, plain = _tokenizer(name, place, shared, chat_template, _PLAIN_ENCODED if encoded else PLAIN_TEMPLATE)
    halved = number_type == torch.float16 and not quantization  # only after its fingerprint is taken, for which that rounds too much
    try:
        with quiet() if name == EMBEDDED else nullcontext():
            model = (AutoModelForSeq2SeqLM if encoded else AutoModelForCausalLM).from_pretrained(
                place,
                config=config,
                dtype="auto" if halved else number_type,
                use_safetensors=True,
                quantization_config=quantization,
                device_map={"": where} if quantization else None,
                **shared,
            )
        mark = fingerprint(model)
        if halved:
            _halve(model)
        model = _trainable(model) if quantization else model.to(where)
    except torch.OutOfMemoryError:
        raise NbtuneError(
            f"{name} does not fit into the memory of {where}: try --dtype bfloat16, --quantize nf4 or a smaller model."
        ) from None
    except (OSError, ValueError, SafetensorError) as error:
        raise NbtuneError(f"Can't load the weights of {name}: {first_line(error)}") from None
    model.eval().requires_grad_(False)
    # How tokens are chosen is asked for per call: a checkpoint's own defaults (sampling, penalties) would
    # make "greedy" mean something else.
    given = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=given.bos_token_id,
        eos_token_id=_ends(given, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=given.decoder_start_token_id,
    )
    return LoadedModel(name, model, tokenizer, mark, plain)


def _ends(given: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Return the tokens that end a reply: those of the checkpoint, and what its tokenizer, and so a fit, puts at the end of one."""
    named = given.eos_token_id if isinstance(given.eos_token_id, list) else [given.eos_token_id]
    return [token for token in dict.fromkeys([*named, tokenizer.eos_token_id]) if token is not None] or None


@contextmanager
def quiet() -> Iterator[None]:
    """Spare transformers' bars and notices inside the block, where a load takes a blink or shows progress of its own."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _device(device: str | None) -> torch.device:
    if device is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise NbtuneError(f"--device {device} is not usable here ({str(error).splitlines()[0]}). Try cpu.") from None
    return chosen


def _dtype(dtype: str | None, device: torch.device) -> torch.dtype | str:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype not in _DTYPES:
        raise NbtuneError(f"--dtype {dtype} is unknown: use {', '.join(_DTYPES)}.{did_you_mean(dtype, _DTYPES)}")
    return _DTYPES[dtype]


def _quantization(quantize: str | None, device: torch.device) -> BitsAndBytesConfig | None:
    if quantize is None:
        return None
    if quantize not in _QUANTIZE:
        raise NbtuneError(f"--quantize {quantize} is unknown: use int8 or nf4.{did_you_mean(quantize, _QUANTIZE)}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NbtuneError(f"--quantize {quantize} needs bitsandbytes: pip install bitsandbytes, then load again.")
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    computed_in = torch.float32 if device.type == "cpu" else torch.bfloat16
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed_in)


def _halve(model: PreTrainedModel) -> None:
    """Round the parameters to float16, and only these: buffers, such as what positions are turned by, lose too much."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.float16)
    model.config.dtype = torch.float16


def _trainable(model: PreTrainedModel) -> PreTrainedModel:
    """Let gradients pass through quantised weights on every CPU."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # a packed form, which such a CPU reads faster, has no gradient
            module.support_avx512bf16_for_cpu = False
    return model


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


def _config(name: str, place: str, shared: dict[str, Any]) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(place, **shared)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            reason = _own_code(place, shared["revision"])
        raise NbtuneError(f"Can't load {name}: {reason.rstrip('.')}.") from None


def _own_code(place: str, revision: str | None) -> str:
    """Say what to do with a model that comes with its own code."""
    if PreTrainedConfig.get_config_dict(place, revision=revision)[0].get("model_type") == "chatglm":
        return (
            "the code that comes with ChatGLM does not run with present transformers. Take its successor in transformers' own "
            "layout, such as zai-org/glm-4-9b-chat-hf, or for ChatGLM2 and 3 an old environment (transformers 4.33)"
        )
    return "it needs code that comes with it. If you trust its authors: nbtune.load(NAME, trust_remote_code=True) in plain Python"


def _check_kind(name: str, config: PreTrainedConfig) -> None:
    """Refuse what does not reply, or can't be taught to."""
    if config.model_type == "cpmant":
        raise NbtuneError(f"{name} is a CPM-Ant, which reads each token with those behind it: it would copy an answer, not learn it.")
    classes = config.architectures or []
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING  # its keys() would import every model there is
    if remote or (causal and (not classes or any("CausalLM" in c or "LMHead" in c for c in classes))):
        return
    if config.model_type in _ENCODED and (not classes or any("ForConditionalGeneration" in c for c in classes)):
        return
    raise NbtuneError(f"{name} is not a causal language model but {', '.join(classes) or config.model_type}.")


def _tokenizer(
    name: str, place: str, shared: dict[str, Any], chat_template: str | None, plain_template: str
) -> tuple[PreTrainedTokenizerBase, bool]:
    """Load the tokenizer; the flag says whether it has the plain chat template."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, **shared)
    except (OSError, ValueError) as error:
        raise NbtuneError(f"Can't load the tokenizer of {name}: {first_line(error)}") from None
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    plain = not tokenizer.chat_template
    if plain:
        tokenizer.chat_template = plain_template
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, plain
