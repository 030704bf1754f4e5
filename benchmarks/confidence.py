"""`python -m benchmarks.confidence RUN ...`: calibration of the probabilities of runs on test speakers."""

import sys
from pathlib import Path

import pandas as pd
import tyro

from ser_tf.errors import UserError
from ser_tf.metrics import unweighted_average_recall
from ser_tf.statistics.confidence import calibration, risk_coverage
from ser_tf.statistics.table import read_predictions


def main(runs: tyro.conf.Positional[tuple[Path, ...]]) -> None:
    """Print a row per strategy, over the test utterances of all its folds and seeds.

    Raises:
        UserError: a folder holds no finished run.
    """
    table = read_predictions(runs)
    rows = []
    for strategy in table.strategies:
        predictions = table.of(strategy).rows
        calibrated, coverage = calibration(table, strategy), risk_coverage(table, strategy)
        rows.append(
            {
                "strategy": strategy,
                "utterances": len(predictions),
                "UAR %": 100 * unweighted_average_recall(predictions["truth"], predictions["prediction"]),
                "AUROC": calibrated.auroc,
                "ECE points": 100 * calibrated.ece,
                "area of risk": coverage.area,
            }
        )
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
