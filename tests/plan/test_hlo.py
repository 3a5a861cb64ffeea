"""Shapes, instructions and how often they run."""

from __future__ import annotations

import pytest

from jaxchat.plan.hlo import arrays, parse


@pytest.mark.parametrize(
    ("text", "bytes_", "on_chip"),
    [
        ("f32[2,3]{1,0}", [24], [False]),
        ("(bf16[8,4]{1,0:T(8,128)(2,1)S(1)}, s32[])", [64, 4], [True, False]),
        ("pred[7]", [7], [False]),
        ("f8e4m3fn[16]{0}", [16], [False]),
        ("token[]", [0], [False]),
    ],
)
def test_arrays_of_a_shape(text, bytes_, on_chip):
    found = arrays(text)
    assert [array.bytes for array in found] == bytes_
    assert [array.on_chip for array in found] == on_chip


LOOPS = """HloModule m

%inner (p: f32[]) -> f32[] {
  %p = f32[] parameter(0)
  ROOT %n = f32[] negate(%p)
}

%test (q: f32[]) -> pred[] {
  %q = f32[] parameter(0)
  ROOT %any = pred[] custom-call(%q), custom_call_target="unknown"
}

%outer (r: f32[]) -> f32[] {
  %r = f32[] parameter(0)
  %k = f32[] custom-call(%r), custom_call_target="k", metadata={text="
}}, of several lines"}
  ROOT %w = f32[] while(%k), condition=%test, body=%inner, backend_config={"known_trip_count":{"n":"4"}}
}

ENTRY %main (s: f32[]) -> f32[] {
  %s = f32[] parameter(0)
  %w.1 = f32[] while(%s), condition=%test, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %w.2 = f32[] while(%w.1), condition=%test, body=%inner
}
"""


def test_loops_multiply_and_one_that_no_count_ends_is_one_round():
    module = parse(LOOPS)
    assert module.runs["outer"] == 3
    assert module.runs["inner"] == 3 * 4 + 1
    assert module.computations["outer"].root.opcode == "while"


UNROLLED = """HloModule m

%test (p: (f32[], u32[])) -> pred[] {
  %p = (f32[], u32[]) parameter(0)
  %count = u32[] get-tuple-element(%p), index=1
  %bound = u32[] constant(7)
  ROOT %more = pred[] compare(%count, %bound), direction=LT
}

%body (q: (f32[], u32[])) -> (f32[], u32[]) {
  %q = (f32[], u32[]) parameter(0)
  %x = f32[] get-tuple-element(%q), index=0
  %i = u32[] get-tuple-element(%q), index=1
  %two = u32[] constant(2)
  %next = u32[] add(%i, %two)
  ROOT %both = (f32[], u32[]) tuple(%x, %next)
}

ENTRY %main (s: (f32[], u32[])) -> (f32[], u32[]) {
  %s = (f32[], u32[]) parameter(0)
  ROOT %w = (f32[], u32[]) while(%s), condition=%test, body=%body
}
"""


def test_a_loop_whose_count_grows_by_two_runs_half_as_often():
    assert parse(UNROLLED).runs["body"] == 4
    assert parse(UNROLLED.replace("constant(2)", "constant(1)")).runs["body"] == 7
