"""``%chat`` and ``%%chat``: put a question to the model, streamed, with the conversation kept."""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext
from html import escape
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbtune.errors import NbtuneError
from nbtune.magics.options import fill_variables, parse
from nbtune.session import Nbtune, variable

if TYPE_CHECKING:
    from nbtune.display.live import LiveReply
    from nbtune.language_model import LanguageModel

__all__ = ["ChatMagics"]

_INTERRUPTED = "[interrupted]"


@magics_class
class ChatMagics(Magics):
    """The chat magic over one session."""

    def __init__(self, shell: Any, session: Nbtune) -> None:
        super().__init__(shell)
        self._session = session

    @no_var_expand
    @magic_arguments()
    @argument("-o", "--output", metavar="NAME", help="Put the reply into this variable.")
    @argument("--new", action="store_true", help="Start a new conversation first.")
    @argument("--rounds", type=int, metavar="N", help="Send only the last N rounds of the conversation along; 0 sends none.")
    @argument("--system", metavar="TEXT", help="A system prompt for this question.")
    @argument("--max-new-tokens", type=int, metavar="N", help="Longest reply in tokens.")
    @argument("--temperature", type=float, default=0.0, metavar="T", help="`0`, the default, is greedy: one answer, always the same.")
    @argument(
        "--top-p", type=float, default=1.0, metavar="P", help="Sample from the likeliest tokens that hold this share of the probability."
    )
    @argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="Above 1 avoids words that were used already.")
    @argument("--seed", type=int, metavar="N", help="Make sampling repeatable.")
    @argument("--compare", action="store_true", help="Ask the base and the tuned model, side by side; not kept in the conversation.")
    @argument("--stats", action="store_true", help="Say behind the reply how fast it came, and how much of the conversation was read anew.")
    @argument("--adapter", metavar="NAME", help="Answer with this adapter, or `none` for the base, this once.")
    @argument("--stop", action="append", metavar="TEXT", help="End the reply before this text; may be given more than once.")
    @argument(
        "--n", type=int, metavar="N", help="N replies to one question, sampled (with a `--temperature`); not kept in the conversation."
    )
    @argument("--batch", metavar="VAR", help="Answer each question of a list by itself; `-o NAME` gets a DataFrame.")
    @argument("--image", metavar="FILE", help="Not taken, and says so: the models here read text alone.")
    @argument("--vars", action="store_true", help="Fill `{name}` from the notebook's variables.")
    @line_cell_magic
    def chat(self, line: str, cell: str | None = None) -> None:
        """Ask the model.

        The text goes to the model as typed, braces and quotes included. The conversation is kept: the
        next question may refer to this one. Ctrl-C keeps what was said so far.

        Examples
        --------
        ::

            %%chat
            What is the capital of France?

            %chat -o answer --rounds 0 Do you know torchkeras?
        """
        options, text = parse(ChatMagics.chat, line)
        if options.image is not None:
            raise NbtuneError("--image is not taken: the models of nbtune read text alone.")
        if options.output is not None and not options.output.isidentifier():
            raise NbtuneError(f"-o {options.output}: that is not a variable name.")
        prompt = "\n".join(part for part in (text, (cell or "").strip()) if part)
        if options.vars:
            prompt = fill_variables(prompt, self.shell.user_ns)
        if not prompt.strip() and options.batch is None:
            raise NbtuneError("The prompt is empty: write the question below %%chat, or behind %chat.")
        if options.rounds is not None and options.rounds < 0:
            raise NbtuneError(f"--rounds {options.rounds}: expected 0 or more.")
        with self._session.claim.held():
            if options.n is not None or options.batch is not None:
                reply: Any = self._many(options, prompt)
            else:
                reply = self._compare(options, prompt) if options.compare else self._ask(options, prompt)
        if options.output is not None:
            self.shell.user_ns[options.output] = reply

    def _sampling(self, options: Namespace) -> dict[str, Any]:
        return {
            "max_new_tokens": self._session.max_new_tokens if options.max_new_tokens is None else options.max_new_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "repetition_penalty": options.repetition_penalty,
            "seed": options.seed,
            "stop": tuple(options.stop or ()),
        }

    def _history(self, options: Namespace) -> list[dict[str, str]]:
        return [] if options.new else self._session.recalled(options.rounds)

    def _ask(self, options: Namespace, prompt: str) -> str:
        from nbtune.display.live import LiveReply
        from nbtune.display.shown import Shown, show

        live = LiveReply()
        lm = self._loaded(live)
        name = None if options.adapter == "none" else options.adapter
        with lm.using(name) if options.adapter is not None else nullcontext():
            reply = lm.reply(
                prompt,
                history=self._history(options),
                system=options.system,
                on_text=live.add,
                **self._sampling(options),
            )
        live.close("" if reply.finished else _INTERRUPTED)
        if options.stats:
            stats = reply.stats()
            show(Shown(stats, f'<div style="opacity:0.7;font-size:0.9em">{escape(stats)}</div>'))
        if options.new:  # only now: a question that could not be put leaves the conversation as it was
            self._session.history = []
        if reply.text:
            self._session.remember(prompt, reply.text)
        if not reply.finished:
            raise KeyboardInterrupt
        return reply.text

    def _loaded(self, live: LiveReply) -> LanguageModel:
        """Return the model; the first question waits for it."""
        if not self._session.loaded:
            live.wait(f"loading {self._session.model} …")
            try:
                return self._session.lm
            except BaseException:
                live.close()
                raise
        return self._session.lm

    def _many(self, options: Namespace, prompt: str) -> Any:
        """Answer a list of questions, or one question several times; return a DataFrame, or a list."""
        if options.compare or (options.n is not None and options.batch is not None) or (options.batch is not None and prompt):
            raise NbtuneError("Give one of --n with a question, --batch VAR without one, and --compare.")
        if options.n is not None and (options.n < 1 or options.temperature == 0):
            raise NbtuneError("--n N needs N of 1 or more and a --temperature above 0: greedy replies are all alike.")
        prompts = [prompt] * options.n if options.batch is None else variable(options.batch, self.shell.user_ns, "--batch")
        if isinstance(prompts, str) or not all(isinstance(one, str) and one.strip() for one in prompts) or not len(prompts):
            raise NbtuneError(f"--batch {options.batch} is not a list of questions.")
        from nbtune.display.shown import show, table

        lm, name = self._session.lm, None if options.adapter == "none" else options.adapter
        with lm.using(name) if options.adapter is not None else nullcontext():
            replies = lm.chat_batch(list(prompts), system=options.system, **self._sampling(options))
        if options.batch is None:
            show(table(("", "reply"), [(str(number), reply) for number, reply in enumerate(replies, start=1)]))
            return replies
        import pandas as pd

        show(table(("prompt", "reply"), list(zip(prompts, replies, strict=True))))
        return pd.DataFrame({"prompt": list(prompts), "reply": replies})

    def _compare(self, options: Namespace, prompt: str) -> str:
        from nbtune.display.shown import Shown, show

        lm = self._session.lm
        if not lm.facts and not lm.examples and options.adapter is None:
            raise NbtuneError("--compare needs an adapter in use: teach something with %%finetune, or choose one with `%nbtune use NAME`.")
        asked = {"history": self._history(options), "system": options.system, **self._sampling(options)}
        with lm.using(None if options.adapter == "none" else options.adapter or lm.adapter):
            replies = [lm.reply(prompt, **asked)]
            if replies[0].finished:
                with lm.base():
                    replies.append(lm.reply(prompt, **asked))
        if not all(reply.finished for reply in replies):
            raise KeyboardInterrupt
        after, before = (reply.text for reply in replies)
        cell = "padding:4px 12px;text-align:left;vertical-align:top;white-space:pre-wrap;width:50%"
        show(
            Shown(
                f"base:  {before}\ntuned: {after}",
                f'<table style="width:100%;max-width:60em"><tr><th style="{cell}">base</th><th style="{cell}">tuned</th></tr>'
                f'<tr><td style="{cell}">{escape(before)}</td><td style="{cell}">{escape(after)}</td></tr></table>',
            )
        )
        return after
