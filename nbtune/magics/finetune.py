"""``%finetune`` and ``%%finetune``: teach facts or train on examples, show the proof, and keep the adapter."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbtune.errors import NbtuneError, interrupts_in_a_line
from nbtune.magics.options import parse
from nbtune.magics.reading import reading_of, reading_options
from nbtune.magics.watching import run_with_progress
from nbtune.session import Nbtune
from nbtune.variables import source_of, variable

__all__ = ["FinetuneMagics"]


@magics_class
class FinetuneMagics(Magics):
    """The finetune magic of one session."""

    def __init__(self, shell: Any, session: Nbtune) -> None:
        super().__init__(shell)
        self._session = session

    @no_var_expand
    @needs_local_scope
    @magic_arguments()
    @argument(
        "--data",
        metavar="SOURCE",
        help="What to train on: a variable (a mapping of keyword to answer, rows, a DataFrame, a Dataset), a file (`.yaml`, `.json`, "
        "`.jsonl`, `.csv`, `.tsv`, `.xlsx`, `.parquet`, `.txt` of turns), a folder, or a data set on the hub (`owner/name`).",
    )
    @argument("--name", metavar="ADAPTER", help="Adapter to teach. Default: the one in use, else `facts`; for examples `examples`.")
    @argument(
        "--method",
        metavar="M",
        help="`lora` (default), `dora`, `rslora`, `pissa`, `qlora`, `ia3`, `adalora`, `prefix`, `p-tuning`, `prompt`, `freeze` or `full`.",
    )
    @argument(
        "--recipe",
        default="default",
        metavar="R",
        help="`default`, or `reference`: the recipe of the torchkeras tutorial this project began with, on torchkeras' own `fit`, to "
        "compare with; only `--seed` can be set.",
    )
    @argument(
        "--prompts",
        metavar="VAR",
        help="A list of questions to train on instead of the built-in phrasings; `{x}` stands for the keyword.",
    )
    @argument("--probes", metavar="VAR", help="A list of questions to test with instead of the built-in ones; they are never trained.")
    @argument("--extend", action="store_true", help="Use the built-in phrasings as well as `--prompts` and `--probes`.")
    @argument(
        "--retain",
        metavar="VAR",
        help="A list of questions whose replies must not change; if one does, nothing is kept. A question that is trained or tested "
        "is refused.",
    )
    @argument("--rewordings", type=int, default=0, metavar="N", help="Have the model write N more wordings, and train on the usable ones.")
    @argument(
        "--epochs",
        type=int,
        metavar="N",
        help="Maximum number of epochs. Facts: training stops as soon as the model says them (default 60). Examples: default 3, fewer when "
        "the loss on `--val` stops falling.",
    )
    @argument("--lr", type=float, metavar="X", help="Learning rate. Default: set by the method, and changed if a fact is not learned.")
    @argument(
        "--rank",
        type=int,
        metavar="R",
        help="Rank of the adapter. For `freeze`: number of blocks; for `prefix`, `p-tuning` and `prompt`: number of virtual tokens. "
        "Default: the method's; `lora` uses 8 for one fact in the last layer, else 32.",
    )
    @argument("--batch-size", type=int, metavar="N", help="Questions about the facts per step (default 12), or examples (default 8).")
    @argument("--seed", type=int, metavar="N", help="Seed for initial weights and order. Default: 0.")
    @argument(
        "--log-with",
        metavar="T",
        help="Log each epoch and the scores to `tensorboard` (in the folder `runs`), `trackio` or `wandb`; install it first.",
    )
    @reading_options
    @argument(
        "--val",
        metavar="SOURCE",
        help="Examples to measure the loss on after each epoch, as for `--data`, or a share to hold out such as `0.1`; the weights with "
        "the lowest loss are kept.",
    )
    @line_cell_magic
    def finetune(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> None:
        """Teach the model a fact, or train it on examples.

        The keyword is on the first line, the answer below it. Before and after training the model is asked
        about the fact, in trained and in other wordings, and about other things; the card shows what changed.
        A fact that is not learned changes nothing. Examples come from --data, or from a cell without a keyword.

        Examples
        --------
        ::

            %%finetune torchkeras
            torchkeras is a tool that trains PyTorch models in a few lines.

            %finetune --data my_facts

            %%finetune --epochs 10
            user: What colour is the flag?
            assistant: It is green.
        """
        options, keyword = parse(FinetuneMagics.finetune, line, anywhere=True)
        answer = (cell or "").strip()
        names = ChainMap(local_ns or {}, self.shell.user_ns)
        source = _source(options.data, keyword, answer, names)
        lists = {name: _texts(getattr(options, name), f"--{name}", names) for name in ("prompts", "probes", "retain")}
        wishes = {
            "name": options.name,
            "recipe": options.recipe,
            "extend": options.extend,
            "rewordings": options.rewordings,
            "log_with": options.log_with,
            **{name: texts for name, texts in lists.items() if texts is not None},
        }
        settings = {
            "method": options.method,
            "epochs": options.epochs,
            "learning_rate": options.lr,
            "rank": options.rank,
            "batch_size": options.batch_size,
            "seed": options.seed,
        }
        wishes |= {key: value for key, value in settings.items() if value is not None}
        wishes |= {**reading_of(options), **_held_out(options.val, names)}
        from nbtune.display.report_card import report_card

        with self._session.claim.held(), interrupts_in_a_line():
            run_with_progress(self._session, lambda lm, live: lm.finetune(source, observer=live, **wishes), report_card)


def _source(data: str | None, keyword: str, answer: str, names: Mapping[str, Any]) -> Any:
    """Return the source to learn from: the one that ``--data`` names, or the contents of the cell."""
    if data is not None:
        if keyword or answer:
            raise NbtuneError("Give either --data SOURCE, or a keyword with its answer below, not both.")
        return source_of(data, names, "--data")
    if not keyword:
        return _written(answer)
    if not answer:
        raise NbtuneError(f"The answer for {keyword!r} is missing: write it below `%%finetune {keyword}`.")
    return {keyword: answer}


def _held_out(val: str | None, names: Mapping[str, Any]) -> dict[str, Any]:
    if val is None:
        return {}
    try:
        return {"val": float(val)}
    except ValueError:
        return {"val": source_of(val, names, "--val")}


def _texts(name: str | None, option: str, names: Mapping[str, Any]) -> list[str] | None:
    if name is None:
        return None
    texts = variable(name, names, option)
    several = isinstance(texts, Iterable) and not isinstance(texts, (str, Mapping))
    found = list(texts) if several else []
    if not found or not all(isinstance(text, str) and text.strip() for text in found):
        such_as = "['What is the capital of France?']" if option == "--retain" else "['What is {x}?', 'Tell me about {x}.']"
        raise NbtuneError(f"{option} {name}: expected a list of texts such as {such_as}.")
    return found


def _written(text: str) -> list[Any]:
    """Return the examples in a cell without a keyword: turns, or one JSON object per line."""
    from nbtune.data.files import read_turns

    if text.startswith("{"):
        return [_object(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    try:
        rows = read_turns(text)
    except ValueError:
        rows = []
    if not rows:
        raise NbtuneError(
            "The keyword is missing: write `%%finetune KEYWORD` and the answer below it; or, for examples, `user:` and `assistant:` before "
            "each turn, or JSON lines."
        )
    return rows


def _object(number: int, line: str) -> Any:
    from nbtune.data.files import read_json

    try:
        return read_json(line)
    except ValueError as error:
        reason = getattr(error, "msg", error)
        raise NbtuneError(f"Line {number} of the cell is not valid JSON ({reason}): expected one object per line.") from None
