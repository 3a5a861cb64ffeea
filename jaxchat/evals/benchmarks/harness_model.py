"""jaxchat as one of lm-evaluation-harness's models, `jaxchat` in its registry.

Imported where the harness runs: lm_eval takes seconds, and this is a class of its own kind. Tokens are those that the
harness's own model of Hugging Face's would read, so that the figures can be compared: text as the tokenizer encodes it,
special tokens included, unless it begins with the first of them; contexts cut from the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lm_eval.models  # noqa: F401  the registry fills itself only as long as nobody has registered
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from jaxchat.chat.conversation import Message
from jaxchat.chat.masking import ChatFormatError
from jaxchat.chat.template import ChatFormat
from jaxchat.errors import InputError
from jaxchat.evals.likelihood import Likelihood, likelihoods
from jaxchat.hub.open import Opened, open_model
from jaxchat.progress import Bar
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import SLOTS, Completion, generate
from jaxchat.sample.methods import Sampling

MAX_TOKENS = 256  # of an answer, where a task does not say
ANSWERED_TOGETHER = 8 * SLOTS  # after so many answers the harness's cache keeps them
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLED = ("top_k", "top_p", "min_p", "repetition_penalty")
_UNDERSTOOD = {"until", "do_sample", "temperature", *_LIMITS, *_SAMPLED}

Pair = tuple[tuple[str, str] | None, list[int], list[int]]


@register_model("jaxchat")
class JaxchatLM(TemplateLM):
    """model: a MODEL's name, or one that is open. template: a chat template's source in place of its own. batch_size,
    max_batch_size, device: what the harness gives every model; rows are packed here, on the devices that JAX has."""

    def __init__(
        self,
        model: str | Opened,
        template: str | None = None,
        batch_size: object = None,
        max_batch_size: object = None,
        device: object = None,
    ) -> None:
        super().__init__()
        self.opened = open_model(model) if isinstance(model, str) else model
        self.format = ChatFormat(self.opened.tokenizer, template) if template else self.opened.format

    @property
    def eot_token_id(self) -> int:
        eos = self.opened.tokenizer.eos_id
        if eos is None:
            raise InputError(f"{self.opened.place.name}: its tokenizer has no token that ends a text")
        return eos

    @property
    def prefix_token_id(self) -> int:
        """What a text without a context is scored after."""
        bos = self.opened.tokenizer.bos_id
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        return self.opened.config.context_length

    @property
    def tokenizer_name(self) -> str:
        """Tells the harness's caches of prompts apart: by all that decides ids and the template."""
        told = self.format.fingerprint if self.format else self.opened.tokenizer.fingerprint
        return f"jaxchat-{told}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self._chat().template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The rendered text. Without a generation prompt the last message is left open, to be gone on from. A system
        message that the template refuses is left out."""
        format = self._chat()
        messages = [Message(one["role"], one["content"]) for one in chat_history]  # type: ignore[arg-type]
        try:
            text = format.text(messages, add_generation_prompt=add_generation_prompt)
        except ChatFormatError:
            messages = [message for message in messages if message.role != "system"]
            text = format.text(messages, add_generation_prompt=add_generation_prompt)
        if add_generation_prompt:
            return text
        said = (messages[-1].content or "").strip()
        return text[: text.rindex(said) + len(said)]

    def _chat(self) -> ChatFormat:
        if self.format is None:
            raise InputError(f"{self.opened.place.name} has no chat template; give one with --template chatml")
        return self.format

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        tokenizer = self.opened.tokenizer
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(tokenizer.decode([self.prefix_token_id]))
        return tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **_: Any) -> list[tuple[float, bool]]:
        def keep(i: int, one: Likelihood) -> None:
            if (key := requests[i][0]) is not None:
                self.cache_hook.add_partial("loglikelihood", key, (one.logprob, one.greedy))

        pairs = [(context, continuation) for _, context, continuation in requests]
        return [(one.logprob, one.greedy) for one in likelihoods(self.opened, pairs, label="choices", on_done=keep)]

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(list(requests), disable_tqdm=True)  # a bar of ours is enough

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[float]:
        """Texts that exceed the context are read in windows, each token scored once, the last window a full one."""
        pairs: list[tuple[list[int], list[int]]] = []
        of: list[int] = []
        for i, request in enumerate(requests):
            for window in get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                pairs.append(make_disjoint_window(window))
                of.append(i)
        sums = [0.0] * len(requests)
        for i, one in zip(of, likelihoods(self.opened, pairs, label="texts"), strict=True):
            sums[i] += one.logprob
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[str]:
        asked = []
        for i, request in enumerate(requests):
            context, options = request.args
            sampling = self.sampling(options, seed=i)
            room = self.max_length - sampling.max_tokens
            if room < 1:
                raise InputError(
                    f"a task asks for answers of {sampling.max_tokens:,} tokens and the model reads "
                    f"{self.max_length:,} with its prompt; it cannot take that task"
                )
            asked.append((self.tok_encode(context)[-room:] or [self.prefix_token_id], sampling))
        if not asked:
            return []
        order = sorted(range(len(asked)), key=lambda i: len(asked[i][0]))
        texts = [""] * len(asked)
        with self._engine(asked) as engine, Bar("answers", len(asked), "answers") as bar:
            for first in range(0, len(order), ANSWERED_TOGETHER):
                some = order[first : first + ANSWERED_TOGETHER]
                prompts, samplings = [asked[i][0] for i in some], [asked[i][1] for i in some]
                done = generate(engine, prompts, samplings, on_end=lambda _: bar.advance())
                for i, completion in zip(some, done, strict=True):
                    texts[i] = self._text(completion, asked[i][1])
                    self.cache_hook.add_partial("generate_until", requests[i].args, texts[i])
        return texts

    def sampling(self, options: dict[str, Any], seed: int = 0) -> Sampling:
        """What a task's `generation_kwargs` ask for. Greedy unless `do_sample`, or a temperature, says otherwise."""
        if unknown := sorted(set(options) - _UNDERSTOOD):
            raise InputError(f"a task's generation_kwargs name {', '.join(unknown)}, which jaxchat does not know")
        until = options.get("until") or []
        until = [until] if isinstance(until, str) else until
        most = next((options[name] for name in _LIMITS if options.get(name) is not None), MAX_TOKENS)
        temperature = float(options.get("temperature", 1.0 if options.get("do_sample") else 0.0))
        if options.get("do_sample") is False:
            temperature = 0.0
        given = {name: options[name] for name in _SAMPLED if options.get(name) is not None}
        return Sampling(
            temperature=temperature,
            max_tokens=int(most),
            stop=tuple(stop for stop in until if stop),
            seed=seed,
            **(given if temperature else {}),
        )

    def _engine(self, asked: Sequence[tuple[list[int], Sampling]]) -> Engine:
        opened = self.opened
        stops = set(self.format.stop_ids) if self.format else set()
        stops |= {opened.tokenizer.eos_id} - {None}  # type: ignore[arg-type]
        needed = max(len(prompt) + sampling.max_tokens for prompt, sampling in asked)
        context = 1 << (needed - 1).bit_length()  # one of few, so that tasks share what was compiled
        slots = SLOTS if len(asked) > 1 else 1
        return Engine(
            opened.model, opened.params, opened.tokenizer, opened.mesh, sorted(stops), slots=slots, context=context
        )

    def _text(self, completion: Completion, sampling: Sampling) -> str:
        """What was said up to the first stop, without special tokens."""
        text = self.opened.tokenizer.decode(completion.token_ids, skip_special_tokens=True)
        for stop in sampling.stop:
            text = text.split(stop)[0]
        return text
