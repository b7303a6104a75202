"""Pytrees: what is a container, and what is said when two trees differ."""

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass

import pytest

from tinyad import nn, pytree

Point = namedtuple("Point", "x y")


@dataclass(frozen=True)
class Pair:
    left: object
    right: object


@pytest.mark.parametrize(
    ("tree", "leaves"),
    [
        (1, [1]),
        (None, []),
        ([], []),
        ([1, (2, None), {"b": 3, "a": 4}], [1, 2, 3, 4]),
        (Point(1, [2, 3]), [1, 2, 3]),
        (Pair(1, {"k": 2}), [1, 2]),
        (OrderedDict(z=1, a=2), [1, 2]),
        (defaultdict(list, {0: 1}), [1]),
        ("text", ["text"]),
    ],
    ids=repr,
)
def test_unflatten_undoes_flatten(tree, leaves):
    found, structure = pytree.flatten(tree)
    again = structure.unflatten(found)
    assert found == leaves
    assert again == tree
    assert type(again) is type(tree)
    assert structure == pytree.flatten(again)[1]
    assert hash(structure) == hash(pytree.flatten(again)[1])


def test_a_module_is_a_tree_of_its_tensors():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    leaves, structure = pytree.flatten(model)
    assert [t.shape for t in leaves] == [(3, 2), (3,), (1, 3), (1,)]
    again = structure.unflatten([t.shape for t in leaves])
    assert again[0].weight == (3, 2) and again is not model and model[0].weight.shape == (3, 2)


def test_map_goes_through_several_trees_and_matches_dicts_by_key():
    assert pytree.map(lambda a, b: a + b, {"x": 1, "y": (2,)}, {"y": (20,), "x": 10}) == {"x": 11, "y": (22,)}


def test_structures_are_shown_with_stars_for_leaves():
    assert repr(pytree.flatten({"a": [1, (2,)], "b": None, "p": Point(1, 2)})[1]) == (
        "{'a': [*, (*,)], 'b': None, 'p': Point(x=*, y=*)}"
    )


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1, 2], [1], "tree 2: expected list of length 2, got list of length 1"),
        ({"a": [1]}, {"a": (1,)}, r"tree 2\['a'\]: expected list of length 1, got tuple of length 1"),
        ({"a": 1}, {"b": 1}, r"tree 2: expected dict with keys \['a'\], got dict with keys \['b'\]"),
        (Pair(1, [2]), Pair(1, 2), "tree 2.right: expected list of length 1, got int"),
        (None, 1, "tree 2: expected None, got int"),
    ],
)
def test_a_mismatch_names_the_place(first, second, message):
    with pytest.raises(ValueError, match=message):
        pytree.map(lambda a, b: a, first, second)


def test_unflatten_counts():
    with pytest.raises(ValueError, match=r"expected 2 leaves for \[\*, \*\], got 3"):
        pytree.flatten([1, 2])[1].unflatten([1, 2, 3])


def test_a_prefix_serves_all_leaves_below_it():
    structure = pytree.flatten(([1, 2], {"a": 3}))[1]
    assert structure.broadcast(0) == [0, 0, 0]
    assert structure.broadcast((None, {"a": 1})) == [None, None, 1]
    assert structure.broadcast(([5, 6], 7)) == [5, 6, 7]
    with pytest.raises(ValueError, match=r"in_axes\[1\]: expected dict with keys \['a'\], got list"):
        structure.broadcast((0, [1]), "in_axes")
