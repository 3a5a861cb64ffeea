"""What lm-evaluation-harness asks of a model, ours answers as the harness's model of Hugging Face's does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from jaxchat.errors import InputError
from jaxchat.evals.benchmarks.harness import Tasks
from jaxchat.evals.benchmarks.harness_model import JaxchatLM
from jaxchat.evals.benchmarks.sandbox import Sandbox
from jaxchat.hub.open import Opened
from jaxchat.sample.methods import Sampling


@pytest.fixture(scope="module")
def ours(tiny_model: Opened) -> JaxchatLM:
    return JaxchatLM(tiny_model)


@pytest.fixture(scope="module")
def theirs(tiny_model: Opened) -> Any:
    torch = pytest.importorskip("torch")
    return get_model("hf")(pretrained=str(tiny_model.place.path), device="cpu", dtype=torch.float32, batch_size=4)


def asked(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, args, 0) for args in arguments]


WORDS = ["the", "cat", "sees", "a", "small", "old", "dog", "and", "rain", "Ümläut", "你好", "where", "not", "yes"]


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def test_it_is_registered_and_made_from_the_harness_s_arguments(tiny_model: Opened):
    lm = get_model("jaxchat").create_from_arg_string(f"model={tiny_model.place.path}", {"batch_size": 8, "device": "x"})
    assert isinstance(lm, JaxchatLM) and lm.max_length == tiny_model.config.context_length
    assert lm.rank == 0 and lm.world_size == 1


def test_tokens(ours: JaxchatLM, theirs: Any):
    for said in ("foo bar", " foo", "<|endoftext|>foo", "你好 \n x", "<|im_start|>user\nHi<|im_end|>\n"):
        assert ours.tok_encode(said) == theirs.tok_encode(said), said
        assert ours.tok_encode(said, add_special_tokens=False) == theirs.tok_encode(said, add_special_tokens=False)
    assert (ours.eot_token_id, ours.prefix_token_id) == (theirs.eot_token_id, theirs.prefix_token_id)
    assert (ours.max_length, ours.max_length) == (theirs.max_length, ours.opened.config.context_length)


def test_loglikelihood(ours: JaxchatLM, theirs: Any):
    rng = random.Random(0)
    pairs = [(text(rng, rng.randint(1, 20)), " " + text(rng, rng.randint(1, 4))) for _ in range(20)]
    context = text(rng, 9)
    pairs += [(context, letter) for letter in (" A", " B", " C", " D")]  # choices of one token behind a space
    pairs += [(context, letter) for letter in "ABCD"]  # and of one token in all
    pairs += [("", "no context"), ("space before ", "the answer"), (text(rng, 200), " too long"), (context, context)]
    requests = asked("loglikelihood", *pairs)
    found, expected = ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True)
    assert [logprob for logprob, _ in found] == pytest.approx([logprob for logprob, _ in expected], rel=1e-4, abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_what_greedy_decoding_says_is_greedy(ours: JaxchatLM):
    context = "the cat"
    (said,) = ours.generate_until(asked("generate_until", (context, {"until": [], "max_gen_toks": 3})))
    ((_, greedy),) = ours.loglikelihood(asked("loglikelihood", (context, said)))
    ((_, other),) = ours.loglikelihood(asked("loglikelihood", (context, said[:-1] + "~")))
    assert greedy and not other


def test_rolling(ours: JaxchatLM, theirs: Any):
    rng = random.Random(1)
    texts = [(text(rng, n),) for n in (1, 5, 40, 300)]
    assert len(ours.tok_encode(texts[-1][0])) > 2 * ours.max_length  # read in windows
    requests = asked("loglikelihood_rolling", *texts)
    found, expected = ours.loglikelihood_rolling(requests), theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    assert found == pytest.approx(expected, rel=1e-4)


def test_generate_until(ours: JaxchatLM, theirs: Any):
    rng = random.Random(2)
    plain = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}
    contexts = [text(rng, n) for n in (1, 3, 7, 30, 200)]
    requests = asked("generate_until", *((context, dict(plain)) for context in contexts))
    expected = theirs.generate_until(requests, disable_tqdm=True)
    assert ours.generate_until(requests) == expected
    stops = [said[3:5] for said in expected]  # something that each of them says
    requests = asked(
        "generate_until", *((context, {**plain, "until": [stop]}) for context, stop in zip(contexts, stops))
    )
    cut = [said.split(stop)[0] for said, stop in zip(expected, stops)]
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True) == cut


def test_what_a_task_says_of_sampling(ours: JaxchatLM):
    assert ours.sampling({}) == Sampling(temperature=0, max_tokens=256)
    greedy = ours.sampling({"do_sample": False, "temperature": 0.7, "top_p": 0.9, "until": "\n", "max_new_tokens": 3})
    assert greedy == Sampling(temperature=0, max_tokens=3, stop=("\n",))
    drawn = ours.sampling({"do_sample": True, "temperature": 0.7, "top_k": 5, "until": ["a", ""]}, seed=4)
    assert drawn == Sampling(temperature=0.7, top_k=5, stop=("a",), seed=4)
    assert ours.sampling({"do_sample": True}).temperature == 1
    with pytest.raises(InputError, match="num_beams"):
        ours.sampling({"num_beams": 3})
    with pytest.raises(InputError, match="cannot take that task"):
        ours.generate_until(asked("generate_until", ("a", {"max_gen_toks": ours.max_length})))


def test_the_same_question_drawn_twice_is_answered_differently(ours: JaxchatLM):
    options = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12}
    requests = asked("generate_until", ("the cat", options), ("the cat", options))
    first, second = ours.generate_until(requests)
    assert first != second and ours.generate_until(requests) == [first, second]


def test_chat_templates(ours: JaxchatLM, theirs: Any, tiny_folder: Path):
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Name one."},
    ]
    for messages, more in ((history, True), (history[:3], False), (history[1:2], True)):
        assert ours.apply_chat_template(messages, more) == theirs.apply_chat_template(messages, more)
    assert ours.chat_template(True) == theirs.chat_template(True) and ours.chat_template(False) is None
    with pytest.raises(InputError, match="no chat template"):
        JaxchatLM(str(tiny_folder)).apply_chat_template(history)


def test_a_system_message_that_a_template_refuses_is_left_out(tiny_model: Opened):
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    history = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    assert JaxchatLM(tiny_model, strict).apply_chat_template(history) == "Hi"


def test_the_harness_s_cache_of_prompts_tells_templates_apart(
    tiny_model: Opened, task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from lm_eval.caching import cache

    monkeypatch.setattr(cache, "PATH", str(tmp_path))
    task = Tasks.load({"arc_easy": 1}, task_folder, Sandbox()).loaded["tasks"]["arc_easy"]
    other = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

    def asked(template: str | None) -> list[Any]:
        lm = JaxchatLM(tiny_model, template)
        task.set_fewshot_seed(seed=1)
        task.build_all_requests(
            limit=2, cache_requests=True, apply_chat_template=True, fewshot_as_multiturn=True,
            chat_template=lm.apply_chat_template, tokenizer_name=lm.tokenizer_name,
        )  # fmt: skip
        return [instance.args for instance in task.instances]

    first, second = asked(None), asked(other)
    assert first != second and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(JaxchatLM, "apply_chat_template", None)  # what was kept needs none
    assert asked(None) == first and asked(other) == second
