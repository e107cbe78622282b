"""A random forest over runs, and what it tells of a space: shares of variance of parameters and of pairs.

For the trees every parameter becomes columns. A number is its position between the lowest and the highest value seen,
on a logarithmic scale where its column says so. A category is one column a value (one alone for two values): codes
would put an order into names, and the result would hang on the alphabet. Shares are summed back to the parameter. What
is absent (None) is one more category; of a number it lies apart below all others, so that one split finds it.

Forests are scikit-learn's (Breiman 2001, DOI 10.1023/A:1010933404324), on one thread.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, combinations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hotlap.analysis.table import Column
from hotlap.core.errors import import_optional

Array = NDArray[np.float64]
Codes = NDArray[np.float32]

ABSENT: Final = -1.0
"""Position of a number that a run does not have; the others lie between 0 and 1."""
CELLS: Final = 20
"""Values at which a number is looked at that takes many."""
SAMPLES: Final = 2048
"""Points of the space from which a forest's variance is estimated; its error is some 3 %."""
MOST_LEAVES: Final = 200
"""Leaves of a tree in large tables, so that their cost grows with the runs and not with their square."""
_NOTHING: Final = 1e-12
"""Variance below which a forest is the same everywhere, where the scores have a variance of about 1."""


class _Coded(NamedTuple):
    """One parameter as the trees see it: W columns, G values that it may take."""

    codes: Codes
    """Shape (runs, W)."""
    atoms: Codes
    """The values at which its effect is looked at, shape (G, W)."""
    weights: Array
    """Share of the space of each of them, shape (G,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """All parameters as the trees see them."""

    matrix: Codes
    """Shape (runs, columns)."""
    groups: tuple[tuple[int, ...], ...]
    """Columns of each parameter."""
    atoms: tuple[Codes, ...]
    weights: tuple[Array, ...]

    def rows(self, rows: NDArray[np.int64]) -> "Encoding":
        """Return the same space with other rows of it."""
        return replace(self, matrix=self.matrix[rows])

    def with_shuffled_copies(self, generator: np.random.Generator) -> "Encoding":
        """Return every parameter and after them all of them again, each copy shuffled over the runs."""
        shuffled = self.matrix.copy()
        for group in self.groups:
            order = generator.permutation(len(self.matrix))
            shuffled[:, list(group)] = self.matrix[order][:, list(group)]
        width = self.matrix.shape[1]
        copies = tuple(tuple(column + width for column in group) for group in self.groups)
        return Encoding(
            matrix=np.ascontiguousarray(np.hstack([self.matrix, shuffled])),
            groups=self.groups + copies,
            atoms=self.atoms * 2,
            weights=self.weights * 2,
        )


def encode(columns: Sequence[Column]) -> Encoding:
    """Return parameters as columns for the trees; there is at least one."""
    parts = [_encode_number(column) if column.kind == "number" else _encode_category(column) for column in columns]
    ends = list(accumulate(part.codes.shape[1] for part in parts))
    starts = [0, *ends[:-1]]
    return Encoding(
        matrix=np.ascontiguousarray(np.hstack([part.codes for part in parts])),
        groups=tuple(tuple(range(start, end)) for start, end in zip(starts, ends, strict=True)),
        atoms=tuple(part.atoms for part in parts),
        weights=tuple(part.weights for part in parts),
    )


def _encode_number(column: Column) -> _Coded:
    """Return a number's positions; one that repeats its values is looked at there, another one on a grid."""
    scaled = [math.log(value) if column.is_log else value for value in column.numbers()]
    low, width = min(scaled, default=0.0), max(scaled, default=0.0) - min(scaled, default=0.0)
    known = [(value - low) / width if width else 0.5 for value in scaled]
    rest = iter(known)
    codes = [ABSENT if value is None else next(rest) for value in column.values]
    distinct = sorted(set(known))
    repeats = 2 * len(distinct) <= len(known)
    cells = distinct if repeats else [(cell + 0.5) / CELLS for cell in range(CELLS)]
    absent = 1 - len(known) / len(codes)
    atoms = [*cells, ABSENT] if absent else cells
    return _Coded(_one_column(codes), _one_column(atoms), _weights(len(cells), absent))


def _encode_category(column: Column) -> _Coded:
    """Return a column of zeros and ones for each value, in the order in which they first appear, None last."""
    names: list[str | None] = list(dict.fromkeys(column.names()))
    absent = column.values.count(None) / len(column.values)
    weights = _weights(len(names), absent)
    names += [None] if absent else []
    marks = np.eye(len(names), dtype=np.float32)
    atoms = marks[:, 1:] if len(names) == 2 else marks
    number = {name: index for index, name in enumerate(names)}
    chosen = [number[None if value is None else str(value)] for value in column.values]
    return _Coded(atoms[chosen], atoms, weights)


def _one_column(values: Sequence[float]) -> Codes:
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def _weights(num_values: int, absent: float) -> Array:
    """Return the shares of the space: values share it equally, however often they were tried; absence is as seen."""
    each = [(1 - absent) / max(1, num_values)] * num_values
    return np.array([*each, absent] if absent else each, dtype=np.float64)


class _Leaves(NamedTuple):
    """The leaves of all trees: boxes (low, high] over the columns, with what each adds to the mean of the trees."""

    low: Array
    """Shape (leaves, columns)."""
    high: Array
    values: Array
    """Shape (leaves,)."""


class Forest:
    """A forest that was grown on runs, with everything that is asked of it."""

    def __init__(
        self,
        encoding: Encoding,
        scores: Array,
        num_trees: int,
        generator: np.random.Generator,
        *,
        is_held_out: bool = False,
    ) -> None:
        """Grow the trees; `is_held_out` keeps what they say of runs that they were not grown on.

        `scores` have a variance of about 1 and any mean. Raises MissingExtraError when scikit-learn is not installed.
        """
        ensemble = import_optional("sklearn.ensemble", "report")
        scores = scores - scores[0]  # equal scores become exactly 0, and so do all shares
        regressor = ensemble.RandomForestRegressor(
            n_estimators=num_trees,
            min_samples_leaf=max(1, len(scores) // MOST_LEAVES),
            oob_score=is_held_out,
            n_jobs=1,
            random_state=int(generator.integers(2**31)),
        )
        self._trees: Any = regressor.fit(encoding.matrix, scores)
        self._encoding = encoding
        self._scores = scores
        self._generator = generator

    @property
    def held_out_r2(self) -> float:
        """Share of the variance of runs that is predicted by trees that were grown without them; at most 1."""
        return float(self._trees.oob_score_)

    def impurity_shares(self) -> Array:
        """Return each parameter's share of what its splits take away from the variance of the runs; they add up to 1.

        Mean decrease of impurity (Breiman 2001). Interactions go to the parameters that take part in them.
        """
        gains = np.asarray(self._trees.feature_importances_, dtype=np.float64)
        return np.array([float(gains[list(group)].sum()) for group in self._encoding.groups])

    def permutation_shares(self) -> Array:
        """Return each parameter's share of the errors that come from shuffling one parameter; they add up to 1.

        Every tree predicts the runs that it was not grown on (Breiman 2001). All zero where shuffling does no harm.
        """
        groups, matrix, scores = self._encoding.groups, self._encoding.matrix, self._scores
        rises = np.zeros(len(groups))
        everything = np.arange(len(scores))
        for tree, drawn in zip(self._trees.estimators_, self._trees.estimators_samples_, strict=True):
            left = np.setdiff1d(everything, drawn)
            if len(left) < 2:
                continue
            tables = np.repeat(matrix[left][None], len(groups) + 1, axis=0)  # (parameters + 1, left, columns)
            for index, group in enumerate(groups):
                order = self._generator.permutation(left)
                tables[index][:, list(group)] = matrix[order][:, list(group)]
            predicted = tree.predict(tables.reshape(-1, matrix.shape[1]), check_input=False)
            errors = ((predicted.reshape(len(groups) + 1, -1) - scores[left]) ** 2).mean(axis=1)
            rises += errors[:-1] - errors[-1]
        gains = np.maximum(rises, 0.0)
        whole = float(gains.sum())
        return gains / whole if whole > 0 else np.zeros(len(groups))

    def variance_shares(self) -> Array:
        """Return each parameter's own share of the forest's variance over the space; they add up to at most 1.

        Functional analysis of variance (Hutter, Hoos and Leyton-Brown, ICML 2014, PMLR 32), but of the mean of the
        trees and not of each tree: what single trees read into noise averages out.
        """
        mains = [float(w @ curve**2) for w, curve in zip(self._encoding.weights, self._curves, strict=True)]
        return self._as_shares(mains)

    def pair_shares(self) -> Array:
        """Return for each pair of parameters the share of the variance that is beyond what each of them does alone.

        The pairs are in the order of `itertools.combinations`.
        """
        return self._as_shares([self._pair_variance(*pair) for pair in combinations(range(len(self._inside)), 2)])

    def without_interactions(self) -> Array:
        """Return scores for the runs as they would be if every parameter acted for itself, noise included.

        The noise is what trees that were grown without a run miss it by, shuffled over the runs.
        """
        additive = np.zeros(len(self._scores))
        for group, atoms, curve in zip(self._encoding.groups, self._encoding.atoms, self._curves, strict=True):
            codes = self._encoding.matrix[:, list(group)]
            distances = ((codes[:, None, :] - atoms[None, :, :]) ** 2).sum(axis=2)  # (runs, values)
            additive += curve[distances.argmin(axis=1)]
        missed = self._scores - np.asarray(self._trees.oob_prediction_, dtype=np.float64)
        scores: Array = additive + self._generator.permutation(missed)
        return scores

    def _as_shares(self, variances: Sequence[float]) -> Array:
        found = np.array(variances, dtype=np.float64)
        return found / self._variance if self._variance > _NOTHING else np.zeros(len(found))

    @cached_property
    def _leaves(self) -> _Leaves:
        """The leaves of all trees, found level by level for all trees at once."""
        trees = [tree.tree_ for tree in self._trees.estimators_]
        counts = [int(tree.node_count) for tree in trees]
        roots = np.cumsum([0, *counts[:-1]])
        starts = np.repeat(roots, counts)
        left = np.concatenate([tree.children_left for tree in trees])
        right = np.concatenate([tree.children_right for tree in trees])
        feature = np.concatenate([tree.feature for tree in trees])
        threshold = np.concatenate([tree.threshold for tree in trees])
        values = np.concatenate([tree.value[:, 0, 0] for tree in trees])
        low = np.full((len(left), self._encoding.matrix.shape[1]), -np.inf)
        high = np.full_like(low, np.inf)
        level: NDArray[np.int64] = roots
        while len(level):
            inner = level[left[level] >= 0]
            below, above = left[inner] + starts[inner], right[inner] + starts[inner]
            low[below], high[below] = low[inner], high[inner]
            low[above], high[above] = low[inner], high[inner]
            high[below, feature[inner]] = threshold[inner]
            low[above, feature[inner]] = threshold[inner]
            level = np.concatenate([below, above])
        is_leaf = left < 0
        return _Leaves(low[is_leaf], high[is_leaf], values[is_leaf] / len(trees))

    @cached_property
    def _inside(self) -> list[Array]:
        """For each parameter which of its values lie in which leaf, shape (leaves, G), as zeros and ones."""
        low, high = self._leaves.low, self._leaves.high
        found: list[Array] = []
        for group, atoms in zip(self._encoding.groups, self._encoding.atoms, strict=True):
            columns = list(group)
            inside = (low[:, None, columns] < atoms[None]) & (atoms[None] <= high[:, None, columns])
            found.append(np.asarray(inside.all(axis=2), dtype=np.float64))
        return found

    @cached_property
    def _sizes(self) -> Array:
        """Each leaf's share of the values of each parameter, shape (parameters, leaves)."""
        return np.stack([inside @ w for inside, w in zip(self._inside, self._encoding.weights, strict=True)])

    @cached_property
    def _curves(self) -> list[Array]:
        """The mean over the space at each value of a parameter, less the mean over the whole space, shape (G,) each."""
        found: list[Array] = []
        for index, (inside, w) in enumerate(zip(self._inside, self._encoding.weights, strict=True)):
            curve = (self._leaves.values * np.prod(np.delete(self._sizes, index, axis=0), axis=0)) @ inside
            found.append(curve - w @ curve)
        return found

    @cached_property
    def _variance(self) -> float:
        """Variance of the forest over the space, from random points of it; at least that of the parameters alone."""
        weights, atoms = self._encoding.weights, self._encoding.atoms
        picks = [self._generator.choice(len(w), size=SAMPLES, p=w) for w in weights]
        points = np.ascontiguousarray(np.hstack([a[pick] for a, pick in zip(atoms, picks, strict=True)]))
        predicted = np.mean([tree.predict(points, check_input=False) for tree in self._trees.estimators_], axis=0)
        mains = math.fsum(float(w @ curve**2) for w, curve in zip(weights, self._curves, strict=True))
        return max(float(np.var(predicted)), mains)

    def _pair_variance(self, first: int, second: int) -> float:
        """Return the variance of a pair beyond that of its two parameters."""
        w, v = self._encoding.weights[first], self._encoding.weights[second]
        others = np.prod(np.delete(self._sizes, [first, second], axis=0), axis=0)
        surface = self._inside[first].T @ ((self._leaves.values * others)[:, None] * self._inside[second])
        rest = surface - w @ surface @ v - self._curves[first][:, None] - self._curves[second][None, :]
        return float(w @ rest**2 @ v)
