"""Trees of replies: every node is on a path, rejected or dropped, whatever the parents say."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxchat.corpora.threads import Choice, Node, grow


def tree(**parents: str) -> list[Node[None]]:
    """Nodes of `name="parent score"`."""
    nodes = []
    for name, text in parents.items():
        parent, _, score = text.partition(" ")
        nodes.append(Node(name, parent if parent != "-" else None, float(score) if score else None, None))
    return nodes


def ids(nodes) -> str:
    return "".join(str(node.id) for node in nodes)


def paths(nodes: list[Node[None]], **options) -> tuple[list[str], dict[str, str]]:
    roots, rejected = grow(nodes)
    assert not rejected and len(roots) == 1
    found, dropped = Choice(**options).of(roots[0])
    assert len({node.id for node, _ in dropped}) == len(dropped)
    return [ids(path) for path in found], {str(node.id): reason for node, reason in dropped}


TREE = {"A": "- 3", "B": "A 1", "C": "A 5", "D": "C 0", "E": "B 9", "F": "C 0", "G": "F 0"}


def test_the_best_path_takes_the_best_reply_then_the_deepest():
    found, dropped = paths(tree(**TREE))
    assert found == ["ACFG"]
    assert dropped == dict.fromkeys("BED", "not on the best path")
    assert paths(tree(A="-", B="A", C="A", D="B"))[0] == ["ABD"]
    assert paths(tree(A="-", B="A", C="A"))[0] == ["AB"]


def test_all_paths_end_in_every_leaf():
    assert paths(tree(**TREE), paths="all") == (["ABE", "ACD", "ACFG"], {})


def test_score_and_depth_leave_replies_out_with_all_below():
    found, dropped = paths(tree(**TREE), paths="all", min_score=2)
    assert found == ["AC"]
    assert dropped["B"] == "its score is below 2" and dropped["E"] == "replies to what was dropped (B)"
    found, dropped = paths(tree(**TREE), paths="all", max_depth=2)
    assert found == ["AB", "AC"] and dropped == dict.fromkeys("EDFG", "deeper than 2 messages")


def test_missing_parents_cycles_and_twice_the_same_id_are_rejected_with_all_below():
    nodes = tree(A="-", B="X", C="B", D="E", E="D", F="D", G="G")
    roots, rejected = grow([*nodes, Node("A", None, None, None)])
    assert ids(roots) == "A"
    assert {str(node.id): reason for node, reason in rejected} == {
        "A": "another has the same id (A)",
        "B": "replies to what is not in the input (X)",
        "C": "replies to what was rejected (B)",
        "D": "replies to itself (D -> E -> D)",
        "E": "replies to itself (E -> D -> E)",
        "F": "replies to what was rejected (D)",
        "G": "replies to itself (G -> G)",
    }
    roots, rejected = grow(tree(A="-", B="X", C="B"), orphans="keep")
    assert ids(roots) == "AB" and not rejected


def test_threads_of_any_depth():
    nodes = [Node(i, i - 1 if i else None, None, None) for i in range(100_000)]
    roots, _ = grow(nodes)
    (path,), dropped = Choice().of(roots[0])
    assert len(path) == 100_000 and not dropped
    ring = [Node(i, (i + 1) % 30_000, None, None) for i in range(30_000)]
    roots, rejected = grow(ring)
    assert not roots and len(rejected) == 30_000 and rejected[0][1].endswith("7 ... -> 0)")


@given(
    st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 12), st.integers(-2, 2)), max_size=12),
    st.sampled_from(["best", "all"]),
    st.sampled_from([None, 0.0]),
    st.integers(0, 3),
    st.sampled_from(["reject", "keep"]),
)
def test_no_node_is_lost(rows, which, min_score, max_depth, orphans):
    nodes = [Node(name, parent, score, None) for name, parent, score in rows]
    roots, rejected = grow(nodes, orphans)
    fates = [id(node) for node, _ in rejected]
    for root in roots:
        found, dropped = Choice(which, min_score, max_depth).of(root)
        fates += [id(node) for node, _ in dropped]
        fates += {id(node) for path in found for node in path}
        for path in found:
            assert path[0] is root and all(b.parent == a.id for a, b in itertools.pairwise(path))
    assert sorted(fates) == sorted(map(id, nodes))


@pytest.mark.parametrize("which", ["best", "all"])
def test_a_lone_message_is_a_path(which: str):
    assert paths(tree(A="-"), paths=which) == (["A"], {})
