"""Parts of every benchmark: sides that take turns, their ratios, and new processes."""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ser_tf.corpora.corpus import Corpus
from ser_tf.errors import UserError


@dataclass(frozen=True)
class Ratio:
    """One side against another: median and interquartile range over the repetitions."""

    median: float
    lower: float
    upper: float
    to: str

    @classmethod
    def of(cls, side: np.ndarray | float, other: np.ndarray | float, to: str) -> "Ratio":
        """Divide each repetition of a side by the other side's repetition of the same turn."""
        lower, median, upper = np.quantile(np.divide(side, other), (0.25, 0.5, 0.75)).tolist()
        return cls(median, lower, upper, to)

    def __str__(self) -> str:
        spread = f" ({self.lower:#.3g} to {self.upper:#.3g})" if self.lower < self.upper else ""
        return f"{self.median:#.3g} x {self.to}{spread}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: float
    unit: str
    ratio: Ratio | None = None

    def __str__(self) -> str:
        return f"  {self.what:<50} {self.value:>9.4g} {self.unit:<10} {self.ratio or ''}".rstrip()


def take_turns(
    *sides: Callable[[], Any], at_least: int = 3, seconds: float = 0, warm_up: bool = True
) -> list[np.ndarray]:
    """Time the sides in turns, A B A B ..., so that other load on the machine affects all sides equally.

    Args:
        sides: functions to time.
        at_least: minimum number of turns.
        seconds: minimum duration.
        warm_up: call each side once before timing.

    Returns:
        For each side, the seconds of each turn, float [turns].
    """
    if warm_up:
        for side in sides:
            side()
    turns: list[list[float]] = []
    start = time.perf_counter()
    while len(turns) < at_least or time.perf_counter() < start + seconds:
        turns.append([_seconds(side) for side in sides])
    return list(np.array(turns).T)


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function in a new interpreter, which inherits neither imports nor memory.

    Raises:
        UserError: the process ended early.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_silence_stderr) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise UserError("a process ended early; perhaps there was too little memory") from error


def rows_of(benchmark: str, corpus: Corpus, scratch: Path) -> list[Row]:
    """Import the module of a benchmark and measure."""
    return list(import_module(f"benchmarks.{benchmark}").measure(corpus, scratch))


def _silence_stderr() -> None:
    """TensorFlow writes there regardless of its settings; errors come back as exceptions."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _seconds(side: Callable[[], Any]) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start
