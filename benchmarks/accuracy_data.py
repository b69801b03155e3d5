"""The data sets of the accuracy table: what scikit-learn ships, generates, and mixed frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets


@dataclass(frozen=True)
class DataSet:
    """One problem of the table.

    `load` returns X (an array, or a frame of mixed columns) and y. Small sets are split
    several times (`repeats`), so that their standard errors say something.
    """

    name: str
    task: str
    load: Callable[[], tuple[Any, np.ndarray]]
    repeats: int = 1
    n_folds: int = 5


def _generated(
    make: Callable[..., Any], *args: Any, seed: int = 0, **options: Any
) -> Callable[[], Any]:
    def load() -> tuple[np.ndarray, np.ndarray]:
        X, y = make(*args, **options, random_state=seed)
        return np.asarray(X, dtype=np.float64), np.asarray(y)

    return load


def _shipped(load: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    return lambda: load(return_X_y=True, **options)


# ------------------------------------------------------------------ mixed types


@dataclass(frozen=True)
class Mixed:
    """A frame of heavy-tailed numbers with holes and of categories, and what depends on it.

    The target is a sum of effects: smooth functions and steps of the numbers' ranks,
    two-dimensional hidden places of the categories (so that levels matter by more than
    an order), products of a number's effect with a category's, and of two categories'.

    Attributes
    ----------
    levels : tuple of int
        Levels of each category column; level frequencies fall off as one over the rank.
    n_numbers, n_noise : int
        Number columns that matter, and that do not.
    steps : float
        Weight of the step functions against the smooth ones, from 0 to 1.
    holes : float
        Share of the values missing in each column; half of the numbers' holes depend on
        the value.
    noise : float
        Standard deviation of what cannot be explained, over that of the signal.
    """

    seed: int
    n_rows: int
    levels: tuple[int, ...]
    n_numbers: int
    n_noise: int = 2
    steps: float = 0.5
    holes: float = 0.05
    noise: float = 0.5
    n_classes: int = 0

    def __call__(self) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the frame, and the labels (strings) or numbers."""
        rng = np.random.default_rng(self.seed)
        latent = rng.normal(size=(self.n_rows, self.n_numbers + self.n_noise))
        codes = [self._draw_codes(rng, n) for n in self.levels]
        n_signals = max(1, self.n_classes if self.n_classes > 2 else 1)
        signals = np.stack([self._signal(rng, latent, codes) for _ in range(n_signals)], axis=1)
        signals /= signals.std(0)
        signals += rng.normal(scale=self.noise, size=signals.shape)
        return self._frame(rng, latent, codes), self._target(signals)

    def _draw_codes(self, rng: np.random.Generator, n_levels: int) -> np.ndarray:
        frequencies = 1 / np.arange(1, n_levels + 1)
        return rng.choice(n_levels, size=self.n_rows, p=frequencies / frequencies.sum())

    def _signal(
        self, rng: np.random.Generator, latent: np.ndarray, codes: list[np.ndarray]
    ) -> np.ndarray:
        places = [rng.normal(size=(n, 2))[c] for n, c in zip(self.levels, codes, strict=True)]
        effects = [self._effect(rng, latent[:, j]) for j in range(self.n_numbers)]
        total = sum(rng.uniform(0.5, 1.5) * effect for effect in effects)
        for j, place in enumerate(places):
            number, other = effects[j % len(effects)], places[j - 1]
            total = total + rng.uniform(0.5, 1.5) * place[:, 0] + place[:, 1] * number
            total = total + 0.7 * np.tanh(2 * place[:, 0] * other[:, 1])
        return np.asarray(total)

    def _effect(self, rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
        smooth = np.sin(rng.uniform(0.7, 2.0) * z + rng.uniform(0, np.pi))
        cuts = np.sort(rng.normal(size=3))
        stepped = rng.normal(size=4)[np.searchsorted(cuts, z)]
        return np.asarray((1 - self.steps) * smooth + self.steps * stepped)

    def _frame(
        self, rng: np.random.Generator, latent: np.ndarray, codes: list[np.ndarray]
    ) -> pd.DataFrame:
        shapes = (np.exp, lambda z: z, lambda z: np.sign(z) * np.abs(z) ** 3, np.round)
        columns: dict[str, Any] = {}
        for j, z in enumerate(latent.T):
            values = shapes[j % len(shapes)](z)
            share = np.where(z > 0.5, 1.5, 0.8) * self.holes
            values[rng.random(self.n_rows) < share] = np.nan
            columns[f"number_{j}"] = values
        for j, (n, c) in enumerate(zip(self.levels, codes, strict=True)):
            names = np.array([f"level {k}" for k in rng.permutation(n)], dtype=object)
            values = names[c]
            values[rng.random(self.n_rows) < self.holes] = None
            dtype = "category" if j % 2 else "str"
            columns[f"category_{j}"] = pd.Series(values, dtype=dtype)
        return pd.DataFrame(columns)[list(rng.permutation(list(columns)))]

    def _target(self, signals: np.ndarray) -> np.ndarray:
        if not self.n_classes:
            return 100 + 25 * signals[:, 0]
        names = np.array([f"class {k}" for k in range(self.n_classes)])
        best = signals.argmax(1) if signals.shape[1] > 1 else (signals[:, 0] > 0.4).astype(int)
        return names[best]


# ------------------------------------------------------------------- the table

CLASSIFICATION, REGRESSION = "classification", "regression"

DATA_SETS: tuple[DataSet, ...] = (
    DataSet("wine", CLASSIFICATION, _shipped(datasets.load_wine), repeats=3),
    DataSet("breast_cancer", CLASSIFICATION, _shipped(datasets.load_breast_cancer), repeats=2),
    DataSet("digits", CLASSIFICATION, _shipped(datasets.load_digits)),
    DataSet(
        "informative",
        CLASSIFICATION,
        _generated(
            datasets.make_classification, 2000, 20, n_informative=10, n_classes=4, class_sep=1.2
        ),
    ),
    DataSet(
        "noisy",
        CLASSIFICATION,
        _generated(datasets.make_classification, 2000, 30, n_informative=5, flip_y=0.2),
    ),
    DataSet("hastie", CLASSIFICATION, _generated(datasets.make_hastie_10_2, 3000)),
    DataSet(
        "quantiles",
        CLASSIFICATION,
        _generated(datasets.make_gaussian_quantiles, n_samples=2000, n_features=10, n_classes=3),
    ),
    DataSet("moons", CLASSIFICATION, _generated(datasets.make_moons, 1000, noise=0.3)),
    DataSet("diabetes", REGRESSION, _shipped(datasets.load_diabetes), repeats=2),
    DataSet("friedman1", REGRESSION, _generated(datasets.make_friedman1, 2000, 20, noise=1.0)),
    DataSet("friedman2", REGRESSION, _generated(datasets.make_friedman2, 1500, noise=150.0)),
    DataSet("friedman3", REGRESSION, _generated(datasets.make_friedman3, 1500, noise=0.1)),
    DataSet(
        "mixed_yes_no",
        CLASSIFICATION,
        Mixed(seed=1, n_rows=3000, levels=(3, 8, 20), n_numbers=5, n_classes=2),
    ),
    DataSet(
        "mixed_classes",
        CLASSIFICATION,
        Mixed(seed=2, n_rows=4000, levels=(5, 12), n_numbers=6, n_classes=4),
    ),
    DataSet(
        "mixed_many_levels",
        CLASSIFICATION,
        Mixed(seed=3, n_rows=5000, levels=(50, 30, 4), n_numbers=3, steps=0.2, n_classes=2),
    ),
    DataSet(
        "mixed_smooth",
        REGRESSION,
        Mixed(seed=4, n_rows=3000, levels=(4, 10), n_numbers=6, steps=0.0),
    ),
    DataSet(
        "mixed_steps",
        REGRESSION,
        Mixed(seed=5, n_rows=3000, levels=(3, 15), n_numbers=5, steps=1.0),
    ),
    DataSet(
        "mixed_levels_and_holes",
        REGRESSION,
        Mixed(seed=6, n_rows=6000, levels=(40, 25, 10), n_numbers=4, holes=0.15),
    ),
)

HELD_OUT: tuple[DataSet, ...] = (
    DataSet(
        "fresh_informative",
        CLASSIFICATION,
        _generated(
            datasets.make_classification,
            2000,
            20,
            seed=1,
            n_informative=10,
            n_classes=4,
            class_sep=1.2,
        ),
    ),
    DataSet(
        "fresh_friedman1",
        REGRESSION,
        _generated(datasets.make_friedman1, 2000, 20, seed=1, noise=1.0),
    ),
    DataSet(
        "fresh_yes_no",
        CLASSIFICATION,
        Mixed(seed=11, n_rows=3000, levels=(6, 25), n_numbers=4, n_classes=2),
    ),
    DataSet(
        "fresh_classes",
        CLASSIFICATION,
        Mixed(seed=12, n_rows=3000, levels=(3, 9, 15), n_numbers=5, n_classes=3),
    ),
    DataSet(
        "fresh_smooth",
        REGRESSION,
        Mixed(seed=13, n_rows=3000, levels=(5, 20), n_numbers=5, steps=0.1),
    ),
    DataSet(
        "fresh_steps",
        REGRESSION,
        Mixed(seed=14, n_rows=3000, levels=(7, 7, 35), n_numbers=5, steps=0.9, holes=0.1),
    ),
)
"""Sets that were made when the recipes stood, and on which none was tried before."""

QUICK = ("wine", "moons")


def by_name(names: list[str] | None = None) -> list[DataSet]:
    """Return the data sets of these names, or all of them."""
    known = {data.name: data for data in (*DATA_SETS, *HELD_OUT)}
    return list(known.values()) if names is None else [known[name] for name in names]


def quick() -> list[DataSet]:
    """Return two small sets in two folds each."""
    return [replace(data, repeats=1, n_folds=2) for data in by_name(list(QUICK))]
