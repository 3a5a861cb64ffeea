"""What an engine promises to many at once: each is answered as alone, in turn, and nobody is mixed up or forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest

from jaxchat.sample import steps
from jaxchat.sample.engine import PATIENCE, Engine, Ticket
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling
from jaxchat.sample.request import ClosedError, Delta, PromptTooLongError, QueueFullError, Request
from jaxchat.sample.runner import Said, Seat
from jaxchat.sample.speculation import Draft, Lookup
from jaxchat.sample.times import Shape
from jaxchat.testing import ByteTokenizer
from tests.sample.conftest import MODEL, ONE

GREEDY = Sampling(temperature=0, max_tokens=12, ignore_eos=True)


class Heard:
    """What one request is told. `then` is called with each delta, in the engine's thread."""

    def __init__(self, engine: Engine, request: Request, then: Callable[[Delta], None] = lambda delta: None) -> None:
        self.deltas: list[Delta] = []
        self.then, self.ended = then, threading.Event()
        self.ticket: Ticket = engine.submit(request, self)

    def __call__(self, delta: Delta) -> None:
        assert not self.ended.is_set()
        self.deltas.append(delta)
        self.then(delta)
        if delta.finish_reason:
            self.ended.set()

    @property
    def reason(self) -> str | None:
        assert self.ended.wait(120)
        return self.deltas[-1].finish_reason

    @property
    def token_ids(self) -> list[int]:
        assert self.ended.wait(120)
        return [token for delta in self.deltas for token in delta.token_ids]


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng((seed, length)).integers(0, 256, length).tolist())


def test_many_at_once_are_each_answered_as_alone(engine):
    """Greedy and seeded, of all lengths, with penalties and without, more of them than there are rows."""
    settings = (
        GREEDY,
        replace(GREEDY, temperature=1.2, seed=7, top_p=0.9),
        replace(GREEDY, presence_penalty=1.5, frequency_penalty=0.5),
        replace(GREEDY, repetition_penalty=1.5, logit_bias=((65, 3.0), (66, -100.0))),
    )
    prompts = [prompt(length) for length in (1, 2, 31, 33, 34, 70, 257, 300, 5, 64, 65, 400)]
    each = [settings[i % 4] for i in range(len(prompts))]
    together = generate(engine, prompts, each)
    for i in (0, 1, 2, 3, 6, 7, 11):
        alone = generate(engine, [prompts[i]], each[i])[0]
        assert alone.token_ids == together[i].token_ids
        np.testing.assert_allclose(alone.logprobs, together[i].logprobs, atol=1e-4)


def test_what_one_said_is_no_others_history(engine):
    penalised = replace(GREEDY, presence_penalty=100.0)
    once = generate(engine, [prompt(9)], penalised)[0]
    assert len(set(once.token_ids)) == len(once.token_ids)  # so strong that nothing is said twice
    assert [generate(engine, [prompt(9)], penalised)[0].token_ids for _ in range(6)] == [once.token_ids] * 6


def test_the_beginning_that_prompts_share_is_read_once(params):
    system = prompt(80)
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=3) as engine:
        asked = [(*system, *prompt(20, seed)) for seed in range(3)]
        answers = [generate(engine, [one], GREEDY)[0].token_ids for one in asked]
        assert engine.stats().reused_tokens == 2 * len(system)
        turn = (*asked[0], *answers[0], *prompt(5))  # the others' rows left what the first conversation had read
        generate(engine, [turn], GREEDY)
        assert engine.stats().reused_tokens == 2 * len(system) + len(asked[0]) + len(answers[0]) - 1
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=3) as engine:
        assert [one.token_ids for one in generate(engine, asked[::-1], GREEDY)] == answers[::-1]


@pytest.mark.parametrize("sampling", [GREEDY, replace(GREEDY, temperature=1.0, seed=3, frequency_penalty=0.2)])
@pytest.mark.parametrize("by", ["lookup", "itself", "another"])
def test_guessing_changes_no_token(engine, params, by, sampling):
    sampling = replace(sampling, max_tokens=30)
    other = jax.tree.map(lambda x: x + 0.1, params)
    guess = Lookup(match=1) if by == "lookup" else Draft(MODEL, params if by == "itself" else other)
    prompts = [prompt(9) * 3, prompt(30), prompt(2)]
    expected = generate(engine, prompts, sampling)
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=3, speculation=guess) as guessing:
        for _ in range(2):
            found = generate(guessing, prompts, sampling)
            assert [one.token_ids for one in found] == [one.token_ids for one in expected]
            np.testing.assert_allclose(found[0].logprobs, expected[0].logprobs, atol=1e-4)
        assert guessing.stats().guessed_tokens > 0


@pytest.mark.parametrize("bearable", [32, 256])
def test_a_long_prompt_is_read_in_pieces_between_others_tokens(params, monkeypatch, bearable):
    """In those that who writes may be kept waiting for, one after each token."""
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=2) as engine:
        runner, order = engine._runner, []
        read, write = runner.read, runner.write
        costs = {"read": lambda shape: shape.rows * shape.tokens, "write": lambda shape: bearable / PATIENCE}
        monkeypatch.setattr(runner.times, "cost", lambda shape: costs[shape.kind](shape))
        monkeypatch.setattr(runner, "read", lambda pieces, size, T: (order.append(T), read(pieces, size, T)))
        monkeypatch.setattr(runner, "write", lambda seats, count: (order.append(0), write(seats, count))[1])
        begun = threading.Event()
        stream = Heard(engine, Request(prompt(2), replace(GREEDY, max_tokens=500)), then=lambda delta: begun.set())
        assert begun.wait(60)
        order.clear()
        long = Heard(engine, Request(prompt(500), replace(GREEDY, max_tokens=1)))
        assert long.reason == "length"
        stream.ticket.cancel()
        assert stream.reason  # it may have ended just before
    pieces = [T for T in order if T]
    assert sum(pieces) >= 499
    assert max(pieces) <= bearable
    assert all(0 in two for two in pairwise(order))


APART = {True: lambda shape: 1e-6 * shape.rows * shape.span, False: lambda shape: 1e-3}


@pytest.mark.parametrize("apart", [True, False])
def test_rows_that_are_written_apart_say_the_same(engine, monkeypatch, apart):
    """To the bit; no step looks over more slots than its rows need, and every turn writes everyone once."""
    lengths = (3, 90, 120, 126, 300)
    each = [replace(GREEDY, max_tokens=40, seed=i, temperature=i % 2) for i in range(5)]
    alone = [generate(engine, [prompt(length)], one)[0] for length, one in zip(lengths, each, strict=True)]
    runner, turns = engine._runner, []
    write, step = engine._write, runner._write

    def note_turn(writing: list) -> None:
        turns.append(({job.row for job in writing}, []))
        write(writing)

    def note_step(shape: Shape, seats: list[Seat], count: int) -> list[Said]:
        spans = {runner.next_span(seat.row) for seat in seats}
        last = max(seat.position for seat in seats) + count
        turns[-1][1].append(([seat.row for seat in seats], spans, shape.span, last))
        return step(shape, seats, count)

    monkeypatch.setattr(engine, "_write", note_turn)
    monkeypatch.setattr(runner, "_write", note_step)
    monkeypatch.setattr(runner.times, "cost", APART[apart])
    together = generate(engine, [prompt(length) for length in lengths], each)
    for one, other in zip(alone, together, strict=True):
        assert (one.token_ids, one.logprobs) == (other.token_ids, other.logprobs)
    for rows, taken in turns:
        assert sorted(row.number for some, *_ in taken for row in some) == sorted(row.number for row in rows)
        assert len(taken) == 1 or apart
        for _, spans, span, last in taken:
            assert last <= span == max(spans)
    assert max(len(rows) for rows, _ in turns) == 5
    assert max(len(taken) for _, taken in turns) == 1 + apart


def test_cancelling_ends_one_answer_and_frees_its_row(engine):
    long = replace(GREEDY, max_tokens=400)
    other = Heard(engine, Request(prompt(8), GREEDY))
    begun, cancelled = threading.Event(), threading.Event()
    one = Heard(engine, Request(prompt(9), long), then=lambda delta: begun.set() or cancelled.wait(60))
    assert begun.wait(60)
    one.ticket.cancel()
    cancelled.set()
    assert one.reason == "cancelled"
    assert 0 < len(one.token_ids) < 400
    assert other.reason == "length"
    waiting = [Heard(engine, Request(prompt(10 + i), long)) for i in range(7)]
    for heard in waiting:  # some run, some wait
        heard.ticket.cancel()
    assert [heard.reason for heard in waiting] == ["cancelled"] * 7
    assert engine.stats().busy == 0


def test_an_answer_ends_when_its_time_is_up(engine):
    heard = Heard(engine, Request(prompt(9), replace(GREEDY, max_tokens=400), seconds=0.0))
    assert heard.reason == "timeout"


def test_clients_take_turns(params):
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=1) as engine:
        order: list[str] = []

        def ask(client: str) -> Heard:
            return Heard(
                engine,
                Request(prompt(4), replace(GREEDY, max_tokens=2), client=client),
                lambda delta: order.append(client) if delta.finish_reason else None,
            )

        hold = threading.Event()
        first = Heard(engine, Request(prompt(3), GREEDY), then=lambda delta: hold.wait(60))
        others = [ask(client) for client in ("many", "many", "many", "one")]
        hold.set()
        assert all(heard.reason == "length" for heard in (first, *others))
        assert order == ["many", "one", "many", "many"]


def test_what_cannot_be_answered_is_refused(params):
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=1, queue=1, context=64) as engine:
        with pytest.raises(PromptTooLongError, match="64 tokens and the model reads 64"):
            engine.submit(Request(prompt(64)), print)
        for bad in (Request(()), Request((260,)), Request((1,), top_logprobs=21)):
            with pytest.raises(Exception, match=r"empty|not among|from 0 to 20"):
                engine.submit(bad, print)
        hold = threading.Event()
        taken = [Heard(engine, Request(prompt(3), GREEDY), then=lambda delta: hold.wait(60)) for _ in range(2)]
        with pytest.raises(QueueFullError, match="wait already"):
            for _ in range(2):
                taken.append(Heard(engine, Request(prompt(3), GREEDY)))
        hold.set()
        assert all(heard.reason == "length" for heard in taken)
        assert engine.stats().refused == 5
    with pytest.raises(ClosedError, match="closed"):
        engine.submit(Request(prompt(3)), print)


def test_closing_drains_or_cuts_short(params):
    for seconds, reason in ((60.0, "length"), (0.0, "cancelled")):
        engine, closing = Engine(MODEL, params, ByteTokenizer(), ONE, slots=1), threading.Event()
        asked = Request(prompt(3), replace(GREEDY, max_tokens=40))
        first = Heard(engine, asked, then=lambda delta, closing=closing: closing.wait(60))
        second = Heard(engine, asked)
        close = threading.Thread(target=engine.close, args=(seconds,))
        close.start()
        while engine._closing is None:
            close.join(0.001)
        closing.set()
        close.join()
        assert (first.reason, second.reason) == (reason, reason)


def test_who_hears_badly_disturbs_nobody(engine):
    def fail(delta: Delta) -> None:
        raise ValueError("gone")

    bad = engine.submit(Request(prompt(5), replace(GREEDY, max_tokens=400)), fail)
    assert Heard(engine, Request(prompt(6), GREEDY)).reason == "length"
    assert bad.request.prompt == prompt(5)


class Alphabet:
    """Letters in their order, and then the end."""

    def __init__(self) -> None:
        self.next = 97

    def mask(self) -> np.ndarray:
        bits = np.zeros(288, bool)
        bits[self.next if self.next < 105 else 257] = True
        return np.packbits(bits, bitorder="little").view("<u4")

    def accept(self, token: int) -> None:
        assert token in (self.next, 257)
        self.next += 1


def test_a_constraint_decides_what_may_be_said(params):
    with Engine(MODEL, params, ByteTokenizer(), ONE, stop_ids=[257], slots=3) as engine:
        sampling = Sampling(temperature=1.0, max_tokens=40)
        bound = Heard(engine, Request(prompt(5), sampling, constraint=Alphabet()))
        free = Heard(engine, Request(prompt(5), sampling))
        assert bytes(bound.token_ids[:-1]) == b"abcdefgh"
        assert bound.reason == "stop"
        free_alone = generate(engine, [prompt(5)], sampling)[0]
        assert free.token_ids == list(free_alone.token_ids)


def test_the_likeliest_tokens_are_those_of_a_whole_forward_pass(engine, params):
    heard = Heard(engine, Request(prompt(20), replace(GREEDY, temperature=1.0, seed=1), top_logprobs=5))
    tokens = [*prompt(20), *heard.token_ids]
    t = np.arange(len(tokens))[None]
    with jax.set_mesh(ONE):
        x = MODEL.hidden(params, np.array(tokens)[None], t, np.ones_like(t))
        expected = np.asarray(jax.nn.log_softmax(MODEL.logits(params, x)))[0, 19:-1]
    tops = [top for delta in heard.deltas for top in delta.top_logprobs]
    logprobs = [logprob for delta in heard.deltas for logprob in delta.logprobs]
    for row, top, token, logprob in zip(expected, tops, heard.token_ids, logprobs, strict=True):
        np.testing.assert_allclose([each for _, each in top], np.sort(row)[::-1][:5], atol=1e-4)
        np.testing.assert_allclose([row[id] for id, _ in top], [each for _, each in top], atol=1e-4)
        np.testing.assert_allclose(logprob, row[token], atol=1e-4)


def test_embeddings_are_means_of_hidden_states(engine, params):
    prompts = [prompt(7), prompt(200)]
    found = engine.embed(prompts)
    for one, vector in zip(prompts, found, strict=True):
        t = np.arange(len(one))[None]
        with jax.set_mesh(ONE):
            x = MODEL.hidden(params, np.array(one)[None], t, np.ones_like(t))
        np.testing.assert_allclose(vector, np.asarray(x)[0].mean(0), atol=1e-4)


def test_all_shapes_are_compiled_ahead(params):
    model = replace(MODEL, config=replace(MODEL.config, context_length=140))
    with Engine(model, params, ByteTokenizer(), ONE, slots=2, speculation=Lookup()) as engine:
        engine.compile()

        def compiled() -> list[int]:
            return [step._cache_size() for step in (steps.read, steps.advance, steps.verify)]

        before = compiled()
        generate(engine, [prompt(3), prompt(100), prompt(60), prompt(4) * 9, prompt(125)], GREEDY)
        generate(engine, [prompt(135)], GREEDY)
        assert compiled() == before
