"""Commands about packed models: list them, make one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ser_tf.cli.options import import_tensorflow
from ser_tf.errors import UserError


@dataclass(frozen=True)
class Models:
    """List the packaged models: emotions, data and licences, scores, intended use and limits."""

    def run(self) -> None:
        """Print the facts of each model's card."""
        from ser_tf.serving.packaged import MODELS, packaged_models

        packaged = packaged_models()
        if not packaged:
            raise UserError(f"{MODELS}: expected a packaged model; this copy of ser_tf has none yet: make model")
        cards = [model.card() for model in packaged.values()]
        for place, (model, card) in enumerate(zip(packaged.values(), cards, strict=True)):
            size = f"{model.path.stat().st_size / 1e6:.1f} MB" if model.path.is_file() else "missing"
            print(*([""] if place else []), f"{card['name']}  {model.path}, {size}", *card_lines(card), sep="\n")


@dataclass(frozen=True)
class Pack:
    """Pack a finished run as one file that answers without TensorFlow, with a card of its scores."""

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    """Folder of the run; if it comes from cross-corpus, the card has its scores on the other corpus."""
    fold_runs: tuple[Path, ...]
    """Runs of all folds of its corpus, trained the same way, for the cross-validated scores."""
    name: str
    """Name of the model."""
    out: Path = Path()
    """Folder for NAME.onnx, NAME.json (the card) and NAME.csv (predictions, for --risk)."""

    def run(self) -> None:
        """Write the files, and print their place and size."""
        import_tensorflow()
        from ser_tf.serving.packing import pack

        packed = pack(self.run_folder, self.fold_runs, self.name, self.out)
        print(f"{packed.path}: {packed.path.stat().st_size / 1e6:.1f} MB; its card: {packed.card_path}")


def card_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """The facts of a card, a line each."""
    yield f"  emotions         {', '.join(card['emotions'])}"
    yield f"  network          {card['network']}"
    for data in card["data"]:
        yield f"  data             {data['title']}, {data['speakers']} speakers; {data['licence']}: {data['terms']}"
    yield f"  cross-validated  {_scores_in_words(card['cross_validated'])}"
    for scores in card["other_corpora"]:
        yield f"  other corpus     {_scores_in_words(scores)}"
    for use in card["intended_use"]:
        yield f"  intended use     {use}"
    for limit in card["limits"]:
        yield f"  limits           {limit}"


def _scores_in_words(scores: Mapping[str, Any]) -> str:
    folds = f", {len(scores['folds'])} folds" if len(scores["folds"]) > 1 else ""
    named = {"UAR": scores["uar"], "accuracy": scores["wa"]}
    figures = ", ".join(f"{name} {_estimate_in_words(estimate)}" for name, estimate in named.items())
    return f"{scores['corpus']}: {figures}; {scores['utterances']} utterances, {scores['speakers']} speakers{folds}"


def _estimate_in_words(estimate: Mapping[str, float | None]) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "unknown"
    interval = "" if low is None or high is None else f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f} %{interval}"
