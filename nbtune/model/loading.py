"""Loads a language model and its tokenizer from the package, a folder or the hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
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

from nbtune.chat_template import apply_chat_template, reply_ids
from nbtune.checks import check_choice, check_text
from nbtune.errors import NbtuneError, first_line
from nbtune.model.fingerprint import fingerprint
from nbtune.model.memory import within_memory
from nbtune.model.sources import read_config, resolve_source
from nbtune.tiny import BUILT_IN

__all__ = ["PLAIN_TEMPLATE", "LoadedModel", "load_model", "quiet"]

# If installed, bitsandbytes logs a line about an optional package when PEFT imports it, and one for each 8-bit matrix product.
logging.get_logger("bitsandbytes").setLevel(logging.ERROR)

# For a base model, which was never trained on a chat format: the turns as a person would write them down.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}User:\n{{ m.content }}\n\n"
    "{% else %}Assistant:\n{{ m.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
# For a model with an encoder: such models were never trained to tell turns apart.
_PLAIN_ENCODED = "{% for m in messages %}{{ m.content }}{{ eos_token if loop.last else '\n' }}{% endfor %}"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_QUANTIZE = ("int8", "nf4")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to answer, and where it was loaded from.

    Parameters
    ----------
    source
        Name that the user gave.
    model, tokenizer
        The base model and its tokenizer.
    fingerprint
        Hash of the weights as the checkpoint holds them.
    place
        Absolute path of the folder, or hub id, that the model was read from.
    revision
        Revision on the hub, if one was given.
    plain
        Whether the tokenizer came without a chat template and was given `PLAIN_TEMPLATE` or, for a model with an encoder, a template
        that writes only the messages, one per line.
    replies
        Greedy replies by question and length limit; they stay valid because the weights never change.
    """

    source: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    place: str
    revision: str | None = None
    plain: bool = False
    replies: dict[tuple[str, int], str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def context(self) -> int:
        """Most tokens, prompt and reply together, that the model was built for; 2048 if its configuration does not say."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 2048)

    @property
    def rounding(self) -> float:
        """Relative precision of the model's computations; 0 in single precision, where a greedy reply is the same in any batch."""
        quantized = getattr(self.model, "is_quantized", False) and self.model.device.type != "cpu"
        dtype = torch.bfloat16 if quantized else self.model.dtype
        return 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps

    @property
    def runs_own_code(self) -> bool:
        """Whether the model runs code that came with it, which somebody trusted."""
        return type(self.model).__module__.startswith("transformers_modules")


def load_model(
    source: str | Path = BUILT_IN,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    quantize: str | None = None,
    revision: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model and its tokenizer.

    Parameters
    ----------
    source
        ``"tiny"`` for the built-in model, a local folder, or a hub id such as ``"Qwen/Qwen3-0.6B"``.
    dtype
        ``"float32"``, ``"float16"`` or ``"bfloat16"``, or torch's own. Default: float32 on a CPU and for the built-in model,
        otherwise the dtype that the model was saved in.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``. Default: a GPU if there is one.
    quantize
        ``"int8"`` or ``"nf4"`` loads the weights in 8 or 4 bits with bitsandbytes. With 4 bits, the model computes in `dtype`, by
        default bfloat16 on a GPU, and float32 on a CPU and for the built-in model.
    revision
        Branch, tag or commit on the hub.
    chat_template
        A Jinja chat template, used in place of the tokenizer's own. Default: the tokenizer's own or, if it has none, a plain one; see
        `LoadedModel`.
    trust_remote_code
        Whether code that comes with the model may run. No magic ever sets this.

    Returns
    -------
    LoadedModel
        The model, without gradients, on its device.

    Raises
    ------
    NbtuneError
        When the folder is missing, it holds no language model that replies or only pickled weights, the model does not fit into memory,
        or an option has an unknown value. Nothing is loaded then.
    """
    where = _device(device)
    name, place = str(source), resolve_source(source)
    number_type = _dtype(dtype, where, built_in=place == resolve_source(BUILT_IN))
    quantization = _quantization(quantize, number_type)
    shared: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = read_config(name, place, shared)
    tokenizer, plain = _tokenizer(name, place, shared, chat_template, _PLAIN_ENCODED if config.is_encoder_decoder else PLAIN_TEMPLATE)
    full = (
        f"{name} does not fit into the memory of {where}: try --dtype bfloat16, --quantize nf4 or a smaller model. A model already "
        f"loaded keeps its memory: run `%nbtune model {BUILT_IN}` first to free it."
    )
    try:
        with within_memory(full), quiet() if name == BUILT_IN else nullcontext():
            model, mark = _weights(place, config, where, number_type, quantization, shared)
        _check_tokenizer(name, tokenizer, model)
    except NbtuneError:
        raise
    except Exception as error:  # of many kinds: from the disk, the network, safetensors, quantization
        raise NbtuneError(f"Can't load the weights of {name}: {first_line(error)}") from error
    model.eval().requires_grad_(False)
    # Each call says how tokens are chosen: a checkpoint's own defaults (sampling, penalties) would
    # change what "greedy" means.
    given = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=given.bos_token_id,
        eos_token_id=_ends(given, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=given.decoder_start_token_id,
    )
    return LoadedModel(name, model, tokenizer, mark, str(Path(place).absolute()) if Path(place).is_dir() else place, revision, plain)


def _weights(
    place: str,
    config: PreTrainedConfig,
    where: torch.device,
    number_type: torch.dtype | str,
    quantization: BitsAndBytesConfig | None,
    shared: dict[str, Any],
) -> tuple[PreTrainedModel, str]:
    """Read the weights; return the model on its device, and the fingerprint."""
    packed = quantization or getattr(config, "quantization_config", None)
    halved = number_type == torch.float16 and not packed  # rounded only after the fingerprint is taken, which float16 would change
    model, info = (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_pretrained(
        place,
        config=config,
        dtype="auto" if halved else number_type,
        use_safetensors=True,
        quantization_config=quantization,
        device_map={"": where} if quantization else None,
        output_loading_info=True,
        **shared,
    )
    if missing := sorted(info["missing_keys"] & dict(model.named_parameters()).keys()):  # transformers would continue with random ones
        raise ValueError(f"the files lack some, such as {missing[0]} ({len(missing)} in all). Download or copy the model again.")
    mark = fingerprint(model)
    if halved:
        _halve(model)
    model = model if quantization else model.to(where)
    return _trainable(model) if packed else model, mark


def _check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a chat template that fails on a question, or does not write it, with a system prompt or without."""
    question = {"role": "user", "content": "Which way is up?"}
    try:
        written = apply_chat_template(tokenizer, [question], tokenize=False)
    except NbtuneError:  # some templates require a system prompt
        written = apply_chat_template(tokenizer, [{"role": "system", "content": "Be kind."}, question], tokenize=False)
    if question["content"] not in written:
        raise NbtuneError("The chat template does not write the user's question: it must write the content of each message.")


def _check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuse a tokenizer that is not the model's."""
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:
        raise NbtuneError(f"The tokenizer of {name} is empty: its folder lacks the tokenizer's files, such as tokenizer.json.")
    known = tokenizer.vocab_size - len(tokenizer.all_special_ids)  # a special token that no text contains does no harm
    embedded = model.get_input_embeddings().weight.shape[0]
    if known > embedded:
        raise NbtuneError(f"The tokenizer of {name} has {known} tokens but the model only {embedded}: they do not match.")


def _ends(given: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Return the tokens that end a reply.

    These are the checkpoint's, the tokenizer's, and the one that the chat template, and so a fit, puts at the end of a reply.
    """
    named = given.eos_token_id if isinstance(given.eos_token_id, list) else [given.eos_token_id]
    closing = None
    with suppress(NbtuneError):  # a template may require more than a question
        *_, closing = reply_ids(tokenizer, [{"role": "user", "content": "Hi"}], "Hi")[1]
    return [token for token in dict.fromkeys([*named, tokenizer.eos_token_id, closing]) if token is not None] or None


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars and notices inside the block, for loads that are quick or show progress of their own."""
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
        raise NbtuneError(f"--device {device} is not usable here ({first_line(error)}). Try cpu.") from None
    return chosen


def _dtype(dtype: str | torch.dtype | None, device: torch.device, *, built_in: bool) -> torch.dtype | str:
    if dtype is None:  # the built-in model was made and measured in single precision; it is stored in half precision to be small
        return torch.float32 if built_in or device.type == "cpu" else "auto"
    name = str(dtype).removeprefix("torch.")
    check_choice("--dtype", name, _DTYPES)
    return _DTYPES[name]


def _quantization(quantize: str | None, number_type: torch.dtype | str) -> BitsAndBytesConfig | None:
    if quantize is None:
        return None
    check_choice("--quantize", quantize, _QUANTIZE)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NbtuneError(f"--quantize {quantize} needs bitsandbytes: pip install bitsandbytes, then load again.")
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    computed_in = number_type if isinstance(number_type, torch.dtype) else torch.bfloat16
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed_in)


def _halve(model: PreTrainedModel) -> None:
    """Round the parameters to float16, except those that a family keeps in single precision.

    These, and buffers, would lose too much.
    """
    exact = {*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())}
    for name, parameter in model.named_parameters():
        kept = any(f".{part}." in f".{name}." for part in exact)
        parameter.data = parameter.data.to(torch.float32 if kept else torch.float16)
    model.config.dtype = torch.float16


def _trainable(model: PreTrainedModel) -> PreTrainedModel:
    """Let gradients pass through quantised weights on every CPU."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # the packed weights that such a CPU reads faster have no gradient
            module.support_avx512bf16_for_cpu = False
    return model


def _tokenizer(
    name: str, place: str, shared: dict[str, Any], chat_template: str | None, plain_template: str
) -> tuple[PreTrainedTokenizerBase, bool]:
    """Load the tokenizer; the flag returned with it says whether it was given the plain chat template."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, **shared)
    except Exception as error:  # of many kinds: tokenizers raises plain Exception
        raise NbtuneError(f"Can't load the tokenizer of {name}: {first_line(error)}") from error
    if chat_template is not None:
        check_text("chat_template", chat_template)
        tokenizer.chat_template = chat_template
        _check_template(tokenizer)
    plain = not tokenizer.chat_template
    if plain:  # nothing is added to what a template writes, so it has to write the token with which the tokenizer begins a text
        begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + plain_template
    if tokenizer.eos_token is None:
        if tokenizer.sep_token is None:
            raise NbtuneError(f"The tokenizer of {name} has no end-of-text token, so a reply could not be taught to end.")
        tokenizer.eos_token = tokenizer.sep_token  # as for Chinese GPT-2 models, which have BERT's tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, plain
