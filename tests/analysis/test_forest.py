"""The forest's shares against sums over the whole space, and how parameters are written for the trees."""

from itertools import combinations, product

import numpy as np
import pytest
from run_tables import column, made

from hotlap.analysis.forest import ABSENT, CELLS, Array, Encoding, Forest, encode
from hotlap.analysis.table import Column


def grown(columns: list[Column], scores: list[float], num_trees: int = 30, seed: int = 0) -> Forest:
    values = np.array(scores)
    return Forest(encode(columns), (values - values.mean()) / values.std(), num_trees, np.random.default_rng(seed))


def on_the_whole_space(forest: Forest, encoding: Encoding) -> Array:
    """Return what the forest predicts for every combination of values, one axis a parameter."""
    shape = [len(atoms) for atoms in encoding.atoms]
    points = [np.concatenate(rows) for rows in product(*encoding.atoms)]
    predicted: Array = forest._trees.predict(np.array(points, dtype=np.float32)).reshape(shape)
    return predicted


def own_part(values: Array, *axes: int) -> Array:
    """Return the mean over all other axes, less the mean over all."""
    others = tuple(axis for axis in range(values.ndim) if axis not in axes)
    return values.mean(axis=others, keepdims=True) - values.mean()


@pytest.fixture
def small() -> tuple[list[Column], list[float]]:
    generator = np.random.default_rng(3)
    steps = generator.choice([50.0, 200.0, 500.0, 1000.0], size=80).tolist()
    optim = generator.choice(["adamw", "muon", "adafactor"], size=80).tolist()
    compiled = generator.choice(["true", "false"], size=80).tolist()
    scores = [
        s / 500 + (o == "muon") * (2 + s / 300) + (c == "true") for s, o, c in zip(steps, optim, compiled, strict=True)
    ]
    return [column("steps", steps), column("optim", optim), column("compile", compiled)], scores


def test_shares_are_those_of_the_whole_space(small: tuple[list[Column], list[float]]) -> None:
    forest, encoding = grown(*small), encode(small[0])
    values = on_the_whole_space(forest, encoding)
    mains = np.array([own_part(values, axis).var() for axis in range(3)])
    pairs = []
    for one, other in combinations(range(3), 2):
        pairs.append((own_part(values, one, other) - own_part(values, one) - own_part(values, other)).var())
    shares, pair_shares = forest.variance_shares(), forest.pair_shares()
    assert shares / shares.sum() == pytest.approx(mains / mains.sum(), abs=1e-9)
    assert pair_shares / shares.sum() == pytest.approx(np.array(pairs) / mains.sum(), abs=1e-9)
    assert shares == pytest.approx(mains / values.var(), abs=0.1), "the whole variance comes from random points"


def test_shares_are_those_of_the_whole_space_when_a_number_is_absent_in_some_runs() -> None:
    generator = np.random.default_rng(5)
    values = [None if draw < 0.25 else float(round(4 * draw)) for draw in generator.random(80).tolist()]
    optim = generator.choice(["adamw", "muon"], size=80).tolist()
    scores = [(v is None) * 3.0 + (v or 0.0) + (o == "muon") for v, o in zip(values, optim, strict=True)]
    columns = [column("momentum", values), column("optim", optim)]
    forest, encoding = grown(columns, scores), encode(columns)
    weights = encoding.weights[0]
    assert weights.sum() == pytest.approx(1.0)
    assert weights[-1] == pytest.approx(values.count(None) / 80)
    predicted = on_the_whole_space(forest, encoding)
    along = predicted.mean(axis=1)
    main = weights @ (along - weights @ along) ** 2
    main_optim = (weights @ predicted).var()
    shares = forest.variance_shares()
    assert shares[0] / shares[1] == pytest.approx(main / main_optim)


def test_numbers_are_positions_and_absent_ones_lie_apart() -> None:
    encoding = encode([column("rate", [1e-5, 1e-4, None, 1e-3], is_log=True)])
    assert encoding.matrix[:, 0] == pytest.approx([0.0, 0.5, ABSENT, 1.0])
    assert len(encoding.atoms[0]) == CELLS + 1
    assert encoding.weights[0].sum() == pytest.approx(1.0)


def test_numbers_that_repeat_are_looked_at_where_they_are() -> None:
    encoding = encode([column("batch", [4.0, 8.0, 4.0, 16.0, 16.0, 8.0])])
    assert encoding.atoms[0][:, 0] == pytest.approx([0.0, 1 / 3, 1.0])
    assert encoding.weights[0] == pytest.approx([1 / 3] * 3)


def test_categories_get_a_column_for_each_value_and_two_share_one() -> None:
    encoding = encode(
        [column("optim", ["a", "b", "c"]), column("compile", ["no", "yes", "no"]), column("same", ["x"] * 3)]
    )
    assert encoding.groups == ((0, 1, 2), (3,), (4,))
    assert encoding.matrix.tolist() == [[1, 0, 0, 0, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 1]]


def test_an_absent_category_is_a_category_of_its_own() -> None:
    encoding = encode([column("optim", ["a", None, "b", "a"])])
    assert encoding.matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert encoding.weights[0] == pytest.approx([0.375, 0.375, 0.25])


def test_names_of_categories_do_not_matter() -> None:
    runs = made(60)
    other = {"adamw": "z", "muon": "a"}
    renamed = [
        Column(c.name, c.kind, tuple(other.get(str(v), v) for v in c.values)) if c.name == "optim" else c
        for c in runs.parameters
    ]
    first = grown(list(runs.parameters), list(runs.scores))
    second = grown(renamed, list(runs.scores))
    assert first.impurity_shares().tolist() == second.impurity_shares().tolist()


def test_copies_are_shuffled_and_come_after_the_parameters() -> None:
    encoding = encode(made(40).parameters)
    doubled = encoding.with_shuffled_copies(np.random.default_rng(0))
    width = encoding.matrix.shape[1]
    assert np.array_equal(doubled.matrix[:, :width], encoding.matrix)
    assert not np.array_equal(doubled.matrix[:, width:], encoding.matrix)
    assert np.array_equal(np.sort(doubled.matrix[:, width:], axis=0), np.sort(encoding.matrix, axis=0))
    assert doubled.groups[len(encoding.groups)] == tuple(column + width for column in encoding.groups[0])


@pytest.mark.parametrize("ask", [Forest.variance_shares, Forest.impurity_shares, Forest.permutation_shares])
def test_a_forest_on_equal_scores_gives_no_shares(ask: object) -> None:
    runs = made(30)
    forest = Forest(encode(runs.parameters), np.full(30, 0.7), 10, np.random.default_rng(0))
    assert callable(ask)
    assert ask(forest).tolist() == [0.0] * 4


def test_scores_without_interactions_keep_what_each_parameter_does() -> None:
    runs = made(200)
    scores = np.array(runs.scores)
    scores = (scores - scores.mean()) / scores.std()
    forest = Forest(encode(runs.parameters), scores, 60, np.random.default_rng(0), is_held_out=True)
    assert np.corrcoef(scores, forest.without_interactions())[0, 1] > 0.8
    assert 0.5 < forest.held_out_r2 <= 1
