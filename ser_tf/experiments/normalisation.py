"""Which spectrogram learns best: three normalisations, with and without log compression.

`python -m ser_tf.experiments.normalisation --corpus RAVDESS` trains strategy S1 for 20 epochs on the training speakers
of some folds and looks at their validation speakers only; test speakers take no part. It resumes where it was stopped,
and several processes may share the work, each with its own `--folds`.
"""

import csv
import dataclasses
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Annotated, Literal, get_args, get_type_hints

import keras
import tyro

from ser_tf.config import Config, SpectrogramConfig, preset
from ser_tf.corpora import Corpus, open_corpus
from ser_tf.corpora.folds import Scheme, load_scheme
from ser_tf.documents import read_json
from ser_tf.training.finetune import FoldTask, train
from ser_tf.training.run_folder import RunFolder, environment, write_json

COMPRESSIONS: tuple[Literal["none", "log"], ...] = ("log", "none")
NORMALISATIONS = get_args(get_type_hints(SpectrogramConfig)["normalisation"])


def compare(
    corpus: Path,
    folds: tuple[int, ...] = (1, 5, 9),
    scheme: str = "corrected",
    base: Annotated[str, tyro.conf.arg(name="preset")] = "compact",
    epochs: int = 20,
    run: Path = Path("runs/normalisation"),
) -> None:
    """Train every combination on every fold, and print the best validation UAR of each.

    Args:
        corpus: folder of the recordings.
        folds: numbers of the folds.
        scheme: where they come from.
        base: preset whose spectrogram is varied.
        epochs: epochs of each training.
        run: folder for the runs and for `comparison.csv`.
    """
    opened = open_corpus(corpus)
    loaded = load_scheme(scheme, opened)
    rows = []
    for fold, compression, normalisation in product(folds, COMPRESSIONS, NORMALISATIONS):
        config = preset(base)
        config = dataclasses.replace(
            config,
            spectrogram=dataclasses.replace(config.spectrogram, compression=compression, normalisation=normalisation),
            training=dataclasses.replace(config.training, maximum_epochs=epochs, patience_epochs=epochs),
        )
        print(f"fold {fold}, compression {compression}, normalisation {normalisation}", flush=True)
        uars = _validation_uars(opened, loaded, fold, config, run / f"fold{fold}-{compression}-{normalisation}")
        rows.append({"fold": fold, "compression": compression, "normalisation": normalisation, "uars": uars})
    _write(rows, run, {"preset": base, "scheme": scheme, "corpus": opened.name, "epochs": epochs})
    print(_table(rows, folds))


def _validation_uars(corpus: Corpus, scheme: Scheme, fold: int, config: Config, folder: Path) -> list[float]:
    run = RunFolder(folder)
    finished = folder / "validation_uars.json"
    task = FoldTask.make(corpus, scheme, fold, "S1", config, weights=None)
    with run.alone():
        run.begin(task.identity(), task.config)
        if not finished.is_file():
            keras.backend.clear_session()
            _, progress = train(task, run, print)
            write_json(finished, [epoch["validation_uar"] for epoch in progress.epochs])
            run.state.unlink()
    return read_json(finished, "remove the file and start again", [float])


def _write(rows: list[dict], run: Path, protocol: dict) -> None:
    folds = "-".join(str(fold) for fold in sorted({row["fold"] for row in rows}))
    write_json(run / f"comparison-folds-{folds}.json", protocol | {"made_with": environment()})
    with (run / f"comparison-folds-{folds}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["fold", "compression", "normalisation", "best_validation_uar", "mean_of_last_five", "per_epoch"]
        )
        for row in rows:
            uars = row["uars"]
            per_epoch = " ".join(f"{uar:.4f}" for uar in uars)
            values = (f"{max(uars):.4f}", f"{mean(uars[-5:]):.4f}", per_epoch)
            writer.writerow([row["fold"], row["compression"], row["normalisation"], *values])


def _table(rows: list[dict], folds: tuple[int, ...]) -> str:
    lines = [
        "best validation UAR, %, by fold; then mean and range over folds; then mean over folds of the last five epochs"
    ]
    for compression, normalisation in product(COMPRESSIONS, NORMALISATIONS):
        chosen = [r["uars"] for r in rows if (r["compression"], r["normalisation"]) == (compression, normalisation)]
        best = [100 * max(uars) for uars in chosen]
        last = mean(100 * mean(uars[-5:]) for uars in chosen)
        cells = " ".join(f"{uar:6.1f}" for uar in best)
        name = f"{compression:<5} {normalisation:<10}"
        lines.append(f"{name} {cells}   {mean(best):6.1f} {max(best) - min(best):6.1f}   {last:6.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(compare)
