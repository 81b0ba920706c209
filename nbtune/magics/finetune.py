"""``%finetune`` and ``%%finetune``: teach a fact, see the proof, keep the adapter."""

from __future__ import annotations

from typing import Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbtune.errors import NbtuneError
from nbtune.magics.options import parse, variable
from nbtune.session import Nbtune

__all__ = ["FinetuneMagics"]


@magics_class
class FinetuneMagics(Magics):
    """The finetune magic over one session."""

    def __init__(self, shell: Any, session: Nbtune) -> None:
        super().__init__(shell)
        self._session = session

    @no_var_expand
    @magic_arguments()
    @argument("--data", metavar="VAR", help="Teach what this variable holds: a mapping keyword -> answer, rows, or a DataFrame.")
    @argument("--name", metavar="ADAPTER", help="Adapter to teach. Default: the one in use, else 'facts'.")
    @argument("--method", default="lora", metavar="M", help="lora (default) or adalora.")
    @argument("--recipe", default="default", metavar="R", help="default, or reference: the article's recipe, to compare with.")
    @argument("--prompts", metavar="VAR", help="A list of questions to train on; {x} stands for the keyword.")
    @argument("--epochs", type=int, metavar="N", help="Most epochs; training stops as soon as the model says it. Default: 60.")
    @argument("--lr", type=float, metavar="X", help="Learning rate. Default: the method's.")
    @argument("--rank", type=int, metavar="R", help="Rank of the adapter. Default: the method's.")
    @argument("--batch-size", type=int, metavar="N", help="Questions about the facts per step. Default: 12.")
    @argument("--seed", type=int, metavar="N", help="Seed of initial weights and order. Default: 0.")
    @line_cell_magic
    def finetune(self, line: str, cell: str | None = None) -> None:
        """Teach the model a fact.

        The keyword stands on the first line, the answer below. The model is asked before and after, in
        wordings it was trained on and others, about other things too; the card shows what changed. A
        fact that does not take changes nothing.

        Examples
        --------
        ::

            %%finetune torchkeras
            torchkeras is a tool that trains PyTorch models in a few lines.

            %finetune --data my_facts
        """
        options, keyword = parse(FinetuneMagics.finetune, line, anywhere=True)
        answer = (cell or "").strip()
        source = self._source(options.data, keyword, answer)
        prompts = None if options.prompts is None else self._prompts(options.prompts)
        settings = {
            "method": options.method,
            "epochs": options.epochs,
            "learning_rate": options.lr,
            "rank": options.rank,
            "batch_size": options.batch_size,
            "seed": options.seed,
        }
        self._teach(source, options.name, options.recipe, prompts, {key: value for key, value in settings.items() if value is not None})

    def _source(self, data: str | None, keyword: str, answer: str) -> Any:
        if data is not None:
            if keyword or answer:
                raise NbtuneError("Give either --data VAR, or a keyword with its answer below, not both.")
            return variable(data, self.shell.user_ns, "--data")
        if not keyword:
            raise NbtuneError("The keyword is missing: write `%%finetune KEYWORD` and the answer below it.")
        if not answer:
            raise NbtuneError(f"The answer for {keyword!r} is missing: write it below `%%finetune {keyword}`.")
        return {keyword: answer}

    def _prompts(self, name: str) -> list[str]:
        prompts = variable(name, self.shell.user_ns, "--prompts")
        if not isinstance(prompts, (list, tuple)) or not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
            raise NbtuneError(f"--prompts {name} is not a list of texts: expected such as ['What is {{x}}?', 'Tell me about {{x}}.'].")
        return list(prompts)

    def _teach(self, source: Any, name: str | None, recipe: str, prompts: list[str] | None, settings: dict[str, Any]) -> None:
        from nbtune.display.card import report_card
        from nbtune.display.live import LiveProgress
        from nbtune.language_model import FactNotLearned

        live = LiveProgress()
        try:
            result = self._session.lm.finetune(source, name=name, recipe=recipe, prompts=prompts, observer=live, **settings)
        except FactNotLearned as failure:
            live.finish(report_card(failure.result))
            raise
        finally:
            live.close()
        live.finish(report_card(result))
