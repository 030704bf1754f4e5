"""An RBF SVM as plain numbers: margins between pairs of classes, their combination, and their file.

scikit-learn only fits the SVM. Files may come from strangers, so every number is checked before use.
"""

import io
import math
import zipfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.svm import SVC

from ser_tf.documents import LARGEST_JSON_BYTES, misfit, parse_json

LARGEST_ARRAY_BYTES = 2**30
LARGEST_NUMBER = 1e12
"""Sums or products of larger numbers may overflow."""
_ARRAYS = ("gamma", "support", "coefficients", "intercepts")
_ATTRIBUTES = ("support_vectors_", "_n_support", "dual_coef_", "intercept_")


@dataclass(frozen=True)
class PairwiseSvm:
    """A fitted RBF SVM that compares C classes in P = C * (C - 1) / 2 pairs: (0, 1), (0, 2), ... (1, 2), ...

    The margin of a pair is `exp(-gamma * |x - support|^2) @ coefficients + intercepts`. From zero upwards it favours
    the pair's first class, below zero the second.

    Attributes:
        gamma: of the kernel, above 0.
        support: float64 [S, E], the support vectors.
        coefficients: float64 [S, P].
        intercepts: float64 [P].

    Raises:
        ValueError: the shapes do not fit together, or a number is not finite.
    """

    gamma: float
    support: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray

    def __post_init__(self) -> None:
        sides_of_pairs(self.intercepts.size)
        vectors, size = self.support.shape if self.support.ndim == 2 else (0, 0)
        shapes = (self.coefficients.shape, self.intercepts.shape)
        if not vectors or not size or shapes != ((vectors, self.intercepts.size), (self.intercepts.size,)):
            raise ValueError(f"an SVM whose arrays have the shapes {(self.support.shape, *shapes)}")
        arrays = (np.float64(self.gamma), self.support, self.coefficients, self.intercepts)
        if not self.gamma > 0 or not all(bool((np.abs(array) < LARGEST_NUMBER).all()) for array in arrays):
            raise ValueError(f"an SVM with numbers that are not finite, or above {LARGEST_NUMBER:g}, or a gamma of 0")

    @classmethod
    def of(cls, svm: SVC, gamma: float, support: np.ndarray) -> "PairwiseSvm":
        """Convert scikit-learn's arrays.

        Args:
            svm: fitted on an RBF kernel, its own or a precomputed one.
            gamma: of that kernel.
            support: float [S, E], its support vectors.
        """
        return cls._of_stored(gamma, support, svm.n_support_, svm.dual_coef_, svm.intercept_)

    @classmethod
    def _of_stored(
        cls, gamma: float, support: np.ndarray, counts: np.ndarray, dual: np.ndarray, intercepts: np.ndarray
    ) -> "PairwiseSvm":
        """Convert C classes with `counts` [C] support vectors, sorted by class, and coefficients `dual` [C - 1, S].

        For classes i < j, row j - 1 of `dual` holds the coefficients of i against j, row i those of j against i. With
        two classes scikit-learn inverts all signs.
        """
        classes = counts.size
        if counts.ndim != 1 or dual.shape != (classes - 1, len(support)) or sum(counts.tolist()) != len(support):
            raise ValueError(f"an SVM whose arrays have the shapes {(support.shape, counts.shape, dual.shape)}")
        if counts.min() < 0 or intercepts.shape != (math.comb(classes, 2),):
            raise ValueError(f"an SVM of {classes} classes with {intercepts.size} intercepts or a negative count")
        class_of = np.repeat(np.arange(classes), counts)
        columns = [
            np.where(class_of == first, dual[second - 1], 0) + np.where(class_of == second, dual[first], 0)
            for first, second in combinations(range(classes), 2)
        ]
        sign = -1 if classes == 2 else 1
        return cls(gamma, support.astype("float64"), sign * np.stack(columns, axis=1), sign * intercepts)

    @property
    def classes(self) -> int:
        """C."""
        return sides_of_pairs(self.intercepts.size)[0].shape[1]

    def margins(self, embeddings: np.ndarray) -> np.ndarray:
        """float64 [N, P] of embeddings [N, E]."""
        embeddings = embeddings.astype("float64")
        square_distance = (
            np.square(embeddings).sum(axis=1, keepdims=True)
            - 2 * embeddings @ self.support.T
            + np.square(self.support).sum(axis=1)
        )
        return np.exp(-self.gamma * np.maximum(square_distance, 0)) @ self.coefficients + self.intercepts

    def save(self, path: Path) -> None:
        """Write the four arrays as an `.npz`."""
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, name), "float64") for name in _ARRAYS}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> "PairwiseSvm":
        """Read a file written by `save`.

        Raises:
            OSError: the file cannot be read.
            ValueError, KeyError, zipfile.BadZipFile: it is damaged or not such a file.
        """
        with _archive(path) as archive:
            gamma, *arrays = (_numbers(archive, f"{name}.npy", np.float64) for name in _ARRAYS)
        if gamma.shape:
            raise ValueError(f"{path.name} with a gamma of the shape {gamma.shape}")
        return cls(float(gamma), *arrays)

    @classmethod
    def load_skops(cls, path: Path) -> "PairwiseSvm":
        """Read the numbers of the `SVC` in an older run's `svm.skops`, without constructing objects from the file.

        Raises:
            OSError, ValueError, KeyError, zipfile.BadZipFile: as for `load`.
        """
        value, array = {"content": str}, {"file": str}
        attributes = {"kernel": value, "gamma": value, **dict.fromkeys(_ATTRIBUTES, array)}
        with _archive(path) as archive:
            schema = parse_json(_content(archive, "schema.json", LARGEST_JSON_BYTES).decode())
            if misfit(schema, {"__class__": str}) or schema["__class__"] != "SVC":
                raise ValueError(f"{path.name} holds no SVC")
            problem = misfit(schema, {"content": {"content": attributes}})
            if problem:
                raise ValueError(f"{path.name}: {problem}")
            stored: dict[str, dict[str, str]] = schema["content"]["content"]
            kernel, gamma = (parse_json(stored[name]["content"]) for name in ("kernel", "gamma"))
            if kernel != "rbf" or misfit(gamma, float):
                raise ValueError(f"{path.name} holds an SVC with another kernel, or without the number gamma")
            support, counts, dual, intercepts = (
                _numbers(archive, stored[name]["file"], np.int32 if name == "_n_support" else np.float64)
                for name in _ATTRIBUTES
            )
        return cls._of_stored(float(gamma), support, counts, dual, intercepts)


def sides_of_pairs(pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """One-hot [P, C]: the first and the second class of each of P pairs.

    Raises:
        ValueError: no number of classes has this number of pairs.
    """
    classes = (1 + math.isqrt(1 + 8 * pairs)) // 2
    if pairs < 1 or math.comb(classes, 2) != pairs:
        raise ValueError(f"an SVM of {pairs} pairs, which no number of classes has")
    first, second = np.triu_indices(classes, 1)
    return np.eye(classes)[first], np.eye(classes)[second]


def opposition(pairs: int) -> np.ndarray:
    """[P, C, C]: entry (p, c, d) is 1 if the margin of pair p favours d over c, -1 for the reverse, 0 otherwise."""
    first, second = sides_of_pairs(pairs)
    return np.einsum("pc,pd->pcd", second, first) - np.einsum("pc,pd->pcd", first, second)


def coupled(margins: np.ndarray, slope: float) -> np.ndarray:
    """Pairwise coupling (Price et al., NIPS 1994): a score [N, C] per class, the logarithm of its probability.

    sigmoid(slope * margin) is the first class's share of the probability of a pair. A class then has the probability
    1 / (1 + sum over its pairs of exp(slope * margin against it)). This is exact if all pairs agree; otherwise the
    classes do not sum to 1.
    """
    return -logsumexp(np.tensordot(slope * margins, opposition(margins.shape[1]), 1), axis=2)


def votes(margins: np.ndarray) -> np.ndarray:
    """scikit-learn's score [N, C] per class (decision_function_shape='ovr'), which older runs use.

    Each pair gives one vote. A class's score is its number of votes plus the sum of its margins, scaled below one
    third; with two classes it is the margin itself.
    """
    first, second = sides_of_pairs(margins.shape[1])
    sums = margins @ (first - second)
    if sums.shape[1] == 2:
        return sums
    return (margins >= 0) @ first + (margins < 0) @ second + sums / (3 * (np.abs(sums) + 1))


def _archive(path: Path) -> zipfile.ZipFile:
    if path.exists() and not path.is_file():  # a device or a pipe may be endless
        raise ValueError(f"{path.name} is not a regular file")
    return zipfile.ZipFile(path)


def _content(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """The bytes of an uncompressed member, which cannot be larger than the file."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > most_bytes:
        raise ValueError(f"{name} is compressed, or larger than {most_bytes:,} bytes")
    return archive.read(member)


def _numbers(archive: zipfile.ZipFile, name: str, dtype: Any) -> np.ndarray:
    """An array of the archive; its header is checked against the data before an array is constructed."""
    content = io.BytesIO(_content(archive, name, LARGEST_ARRAY_BYTES))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{name} in an unknown version of NumPy's format")
    shape, is_fortran, stored = np.lib.format.read_array_header_1_0(content)
    numbers = content.read()
    if stored != dtype or min(shape, default=0) < 0 or len(numbers) != math.prod(shape) * stored.itemsize:
        raise ValueError(f"{name} of the type {stored} and shape {shape} in {len(numbers)} bytes")
    return np.frombuffer(numbers, dtype).reshape(shape, order="F" if is_fortran else "C")
