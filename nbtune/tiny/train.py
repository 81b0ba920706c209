"""Trains the built-in model on the corpus: ``python -m nbtune.tiny.train``.

The data of a step depends only on the seed and the step, so an interrupted run continues exactly
from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from nbtune.tiny import WEIGHTS
from nbtune.tiny.corpus import KIND_WEIGHTS, Corpus
from nbtune.tiny.text import corpus_hash
from nbtune.tiny.tokenizer import CONTEXT, build_tokenizer, name_pieces

__all__ = ["Recipe", "main"]

_PARTS = 4  # a step is computed in parts with conversations of similar length, to pad less
_CHECKPOINT_EVERY = 200
_WARMUP = 100


@dataclass(frozen=True)
class Recipe:
    """Settings that, together with the corpus, determine the weights."""

    seed: int = 20261122
    steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    start: str = ""  # folder of a finished model to continue from, with its tokenizer; empty for a new model
    weights: dict[str, int] = field(default_factory=dict)  # frequencies of kinds of exchanges, in place of the corpus' own


def new_model(vocabulary: int, pad: int, end: int) -> Qwen3ForCausalLM:
    """Build the untrained model: a stock Qwen3 of 5 million parameters with tied embeddings."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=end,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(pad_token_id=pad, eos_token_id=end, do_sample=False, max_new_tokens=200)
    return model


def sample_text(seed: int, conversations: int = 20_000) -> Iterator[str]:
    """Yield message texts from which the tokenizer learns its merges."""
    corpus, rng = Corpus(), random.Random(seed)
    for _ in range(conversations):
        yield from (message["content"] for message in corpus.conversation(rng))


class Batches:
    """Encoded training batches, indexed by step.

    Each batch is a list of parts. A part is a pair of tensors of shape (conversations, longest): token
    ids, and labels, which are -100 where nothing is trained (everything except the assistant's words).
    """

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        self._recipe, self._tokenizer = recipe, tokenizer
        self._corpus = Corpus(name_pieces(tokenizer), recipe.weights)

    def __getitem__(self, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        rng = random.Random(f"{self._recipe.seed}-{step}")
        encoded = sorted((self._encode(rng) for _ in range(self._recipe.batch_size)), key=lambda pair: len(pair[0]))
        size = self._recipe.batch_size // _PARTS
        return [self._pad(encoded[at : at + size]) for at in range(0, len(encoded), size)]

    def _encode(self, rng: random.Random) -> tuple[list[int], list[int]]:
        encoded = self._tokenizer.apply_chat_template(self._corpus.conversation(rng), return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = encoded["input_ids"][:CONTEXT], encoded["assistant_masks"][:CONTEXT]
        return ids, [token if wanted else -100 for token, wanted in zip(ids, mask, strict=True)]

    def _pad(self, pairs: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest, pad = max(len(ids) for ids, _ in pairs), self._tokenizer.pad_token_id
        ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in pairs])
        labels = torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in pairs])
        return ids, labels


class Trainer:
    """A training run: Muon for the matrices, AdamW for the rest, and after a warm-up a learning rate that decays linearly to zero."""

    def __init__(self, recipe: Recipe, model: Qwen3ForCausalLM, device: torch.device, bf16: bool = False) -> None:
        self.recipe, self.model, self.device = recipe, model.to(device).train(), device
        self._bf16 = bf16 or device.type == "cuda"
        self.step = 0
        self.losses: list[float] = []
        self.seconds = 0.0
        self.tokens = 0
        self.texts: list[list[Any]] = [[0, corpus_hash()]]  # first step and hash of each text used
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
        decay = recipe.weight_decay
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=recipe.learning_rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=recipe.learning_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
        ]

    def train_step(self, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """Make one optimizer step and return its loss; logits are computed only for trained tokens."""
        started, rate = time.perf_counter(), self._rate()
        trained = sum(int((labels != -100).sum()) for _, labels in parts)
        total = 0.0
        for ids, labels in parts:
            loss = self._loss(ids.to(self.device), labels.to(self.device)) / trained
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            self.tokens += int(ids.numel())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.losses.append(total)
        self.seconds += time.perf_counter() - started
        return total

    def _loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the summed cross-entropy of the trained tokens."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            # No mask is needed: padding is on the right, and attention looks only to the left.
            hidden = self.model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            wanted = labels[:, 1:] != -100
            logits = self.model.lm_head(hidden[wanted])
        return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="sum")

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / _WARMUP)
        return self.recipe.learning_rate * warm * (1 - self.step / self.recipe.steps)

    def save(self, path: Path) -> None:
        """Write a checkpoint; a rename puts it in place, so that an interruption never leaves it incomplete."""
        state = {
            "recipe": asdict(self.recipe),
            "texts": self.texts,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "step": self.step,
            "losses": self.losses,
            "seconds": self.seconds,
            "tokens": self.tokens,
        }
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def resume(self, path: Path, accept_new_text: bool = False) -> None:
        """Continue from a checkpoint of the same recipe and, unless a new text is accepted, of the same text."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise SystemExit(f"{path} was made with another recipe: delete it, or choose another --work folder.")
        self.texts = state["texts"]
        if self.texts[-1][1] != corpus_hash():
            if not accept_new_text:
                raise SystemExit(f"{path} was made with another text: delete it, or go on with the new one with --accept-new-text.")
            self.texts = [*self.texts, [state["step"], corpus_hash()]]
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.losses = state["step"], state["losses"]
        self.seconds, self.tokens = state["seconds"], state["tokens"]


def run(recipe: Recipe, work: Path, out: Path, accept_new_text: bool = False, bf16: bool = False) -> None:
    """Train a model, or continue its training from the checkpoint in `work`, and write the finished model to `out`."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = _tokenizer(recipe, work)
    model = _model(recipe, tokenizer)
    if bf16 and device.type == "cpu":
        # On a CPU, the gradient of fused attention is slow in half precision.
        model.set_attn_implementation("eager")
    trainer, checkpoint = Trainer(recipe, model, device, bf16), work / "checkpoint.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint, accept_new_text)
    batches = Batches(recipe, tokenizer)
    with tqdm(total=recipe.steps, initial=trainer.step, unit="step", mininterval=5) as progress:
        while trainer.step < recipe.steps:
            trainer.train_step(batches[trainer.step])
            progress.update()
            recent = trainer.losses[-50:]
            progress.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
            if trainer.step % _CHECKPOINT_EVERY == 0 or trainer.step == recipe.steps:
                trainer.save(checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    # Half precision halves the size of the wheel; the package loads the model in single precision.
    model.eval().half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(_training_record(recipe, trainer, bf16), indent=2) + "\n")
    print(f"The model is in {out}; `python -m nbtune.tiny.evaluate --model {out}` scores it.")


def _training_record(recipe: Recipe, trainer: Trainer, bf16: bool) -> dict[str, Any]:
    """Return the record of a training that the model card is written from."""
    last = trainer.losses[-100:]
    return {
        **asdict(recipe),
        "corpus": corpus_hash(),
        "texts": trainer.texts,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "tokens": trainer.tokens,
        "seconds": round(trainer.seconds),
        "loss": round(sum(last) / len(last), 4),
        "device": trainer.device.type,
        "bf16": bf16,
        "started_from": _record(Path(recipe.start)) if recipe.start else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _record(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return made


def _model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    if recipe.start:
        started: Qwen3ForCausalLM = Qwen3ForCausalLM.from_pretrained(recipe.start, dtype=torch.float32)
        return started
    return new_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)


def _tokenizer(recipe: Recipe, work: Path) -> PreTrainedTokenizerFast:
    folder = Path(recipe.start) if recipe.start else work / "tokenizer"
    if not folder.exists():
        build_tokenizer(sample_text(recipe.seed)).save_pretrained(folder)
    loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return loaded


def _weight(text: str) -> tuple[str, int]:
    kind, _, weight = text.partition("=")
    if kind not in KIND_WEIGHTS or not weight.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is no KIND=N with a kind of {', '.join(KIND_WEIGHTS)}")
    return kind, int(weight)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m nbtune.tiny.train", description=__doc__)
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="random seed (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--start", default=Recipe.start, help="folder of a finished model to go on from (default: a new model)")
    parser.add_argument(
        "--weights", nargs="+", type=_weight, default=[], metavar="KIND=N", help=f"other shares of the kinds: {', '.join(KIND_WEIGHTS)}"
    )
    parser.add_argument("--bf16", action="store_true", help="compute in half precision also on a CPU (one with AVX512-BF16)")
    parser.add_argument("--work", type=Path, default=Path("tiny_work"), help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the finished model")
    parser.add_argument("--accept-new-text", action="store_true", help="continue although the text was changed meanwhile")
    options = parser.parse_args(arguments)
    recipe = Recipe(
        steps=options.steps, seed=options.seed, learning_rate=options.learning_rate, start=options.start, weights=dict(options.weights)
    )
    run(recipe, options.work, options.out, options.accept_new_text, options.bf16)


if __name__ == "__main__":
    main()
