"""Fixtures: the built-in model, a shell with the extension, and small random models on disk."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A few wordings to train on, for tests that do not measure how well a fact is learned.
FEW = ["{x}是什么？", "What is {x}?", "你知道{x}吗", "Tell me about {x}.", "介绍一下{x}", "what's {x}"]
FACT = {"梦中情炉": "梦中情炉是训练模型的工具torchkeras的别名。"}


@pytest.fixture
def lm(tmp_path):
    """The built-in model with a store of its own."""
    import nbtune

    return nbtune.load(store=tmp_path / "store")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The built-in model, taught `FACT` once for a whole module; tests must not change it."""
    import nbtune

    model = nbtune.load(store=tmp_path_factory.mktemp("taught"))
    model.result = model.finetune(FACT)
    return model


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """An IPython shell in an empty folder, with the extension loaded."""
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.chdir(tmp_path)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.extension_manager.load_extension("nbtune")
    yield shell
    shell.extension_manager.unload_extension("nbtune")
    InteractiveShell.clear_instance()


@pytest.fixture(scope="session")
def random_model(tmp_path_factory):
    """Function that writes a small random model of an architecture, with the built-in tokenizer, and returns its folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    from nbtune.tiny import WEIGHTS

    def build(config_class, **changes):
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
        shape = {
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
        folder = tmp_path_factory.mktemp(config_class.__name__)
        config = config_class(**{**shape, **changes})
        (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build
