"""The folder of a run: its identity, progress and results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ser_tf.config import Config
from ser_tf.documents import misfit, read_bounded, read_json
from ser_tf.errors import UserError
from ser_tf.runs.files import sha256_of, write_json, write_text
from ser_tf.runs.lock import LOCK, alone_in
from ser_tf.runs.provenance import environment

IDENTITY: dict[str, Any] = {
    **dict.fromkeys(("strategy", "corpus", "scheme", "scheme_hash", "data_hash"), str),
    **dict.fromkeys(("protocol", "trained_on", "tested_on"), str),
    "left_out": {key: {str: int} for key in ("trained_on", "tested_on")},
    "polarities": {str: str},
    "fold": int,
    "weights": (dict, None),
    **{key: [str] for key in ("train_speakers", "validation_speakers", "test_speakers")},
}
"""Possible entries of an identity, as shapes for `ser_tf.documents.misfit`."""
_SCORES = {"utterances": int, **dict.fromkeys(("wa", "uar", "macro_f1", "ece"), float)}
WRITTEN = {
    **dict.fromkeys(("test", "validation"), _SCORES),
    **{key: {str: str} for key in ("excluded", "unreadable")},
    "whole_waveform_kept": int,
}
"""Entries in the `metrics.json` of every tested run, as a shape for `ser_tf.documents.misfit`."""
START: dict[str, Any] = {"strategy": str, "speakers": [str], "afresh": [str], "sha256": str}
"""Possible entries in the provenance of weights."""

CHECKED = ("config.yaml", "embedding.weights.h5", "head.weights.h5", "classifier.json", "svm.npz")
"""Files that name emotions; `checksums.sha256` lists those that a run has, as `sha256sum --check` reads them."""
_LARGEST_CHECKSUMS_BYTES = 10_000


class RunFolder:
    """Names and reads the files of one run.

    A run is finished when `metrics.json` exists; it is written last, atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.identity = path / "run.json"
        self.log = path / "log.csv"
        self.tensorboard = path / "tensorboard"
        self.state = path / "state.npz"
        self.utterances = path / "utterances.tfrecord"
        self.weights = path / "embedding.weights.h5"
        self.head_weights = path / "head.weights.h5"
        self.network = path / "embedding.keras"
        self.predictions = path / "predictions.csv"
        self.confusion = path / "confusion.csv"
        self.checksums = path / "checksums.sha256"
        self.metrics = path / "metrics.json"

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return self.metrics.is_file()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder against other processes; a folder that is empty at the end is removed.

        Raises:
            UserError: a different process is using it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise self._refused() from None
        try:
            with alone_in(self.path):
                yield
        finally:
            with suppress(OSError):
                self.path.rmdir()

    def begin(self, identity: dict[str, Any], config: Config) -> None:
        """Start a new run, or check that the folder holds the same run.

        Args:
            identity: everything that decides the result, as JSON values; a run is resumed only if all of it is equal.
            config: the resolved configuration.

        Raises:
            UserError: the folder holds a different run, or something else.
        """
        if not self.identity.is_file():
            started = {self.config.name, f"unfinished-{self.identity.name}", LOCK}
            if self.path.exists() and (not self.path.is_dir() or {file.name for file in self.path.iterdir()} - started):
                raise self._refused()
            self.path.mkdir(parents=True, exist_ok=True)
            config.save(self.config)
            write_json(self.identity, {"identity": identity, "made_with": environment()})
            return
        before = self.read_identity()
        changed = [key for key in identity if before.get(key) != identity[key]]
        if not changed and Config.load(self.config) != config:
            changed = ["configuration"]
        if changed:
            raise UserError(
                f"{self.path}: holds a run with another {', '.join(changed)}; choose another --run or remove the folder"
            )

    def finish(self, result: dict[str, Any]) -> None:
        """Write the checksums of a network and then `metrics.json`, and remove what only resuming needs."""
        if self.weights.is_file():
            there = [name for name in CHECKED if (self.path / name).is_file()]
            write_text(self.checksums, "".join(f"{sha256_of(self.path / name)}  {name}\n" for name in there))
        write_json(self.metrics, result)
        self._tidy()

    def result(self, report: Callable[[str], None], shape: dict[str, Any]) -> dict[str, Any]:
        """Content of the `metrics.json` of an already finished run.

        Args:
            report: receives that message.
            shape: its required shape, for `ser_tf.documents.misfit`.

        Raises:
            UserError: the file is damaged.
        """
        report(f"{self.path}: already finished")
        self._tidy()  # files left if the run was killed after its result
        return read_json(self.metrics, "remove the folder and start again", shape)

    def read_identity(self) -> dict[str, Any]:
        """Everything that decides the run's result.

        Raises:
            UserError: the folder is not a run.
        """
        remedy = "give the folder of a run made by ser-tf finetune"
        content = read_json(self.identity, remedy)
        if not isinstance(content, dict) or not isinstance(content.get("identity"), dict):
            raise UserError(f"{self.identity}: expected the identity of a run; {remedy}")
        identity = content["identity"]
        problem = misfit(identity, {name: kind for name, kind in IDENTITY.items() if name in identity})
        problem = problem or misfit_of_start(identity.get("weights"))
        if problem:
            raise UserError(f"{self.identity}: {problem}; {remedy}")
        return identity

    def read_made_with(self) -> dict[str, Any]:
        """Versions and machine that made the run, from `environment`; older and foreign runs lack some.

        Raises:
            UserError: the folder is not a run.
        """
        remedy = "train this run again"
        made_with = read_json(self.identity, remedy, dict).get("made_with", {})
        kinds = {"ser_tf": str, "commit": (str, None), "packages": {str: str}, "backend": str, "machine": str}
        problem = misfit(made_with, dict) or misfit(
            made_with, {name: kind for name, kind in kinds.items() if name in made_with}
        )
        if problem:
            raise UserError(f"{self.identity}: made_with: {problem}; {remedy}")
        return made_with

    def require_finished(self) -> None:
        """Refuse a folder that is not a finished run.

        Raises:
            UserError: the folder is missing, is not a run, or its run is not finished.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path}: expected the folder of a run; there is none")
        self.read_identity()
        if not self.finished:
            raise UserError(
                f"{self.path}: this run is not finished; start the same ser-tf finetune command again and it resumes"
            )

    def require_unchanged(self) -> None:
        """Refuse files that are not as the run wrote them. Older runs have no checksums to compare with.

        Raises:
            UserError: a file differs from its checksum, or the checksums cannot be read.
        """
        if not self.checksums.exists():
            return
        try:
            lines = read_bounded(self.checksums, _LARGEST_CHECKSUMS_BYTES).splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{self.checksums}: expected checksums of the run's files; restore the file") from error
        for expected, _, name in (line.partition("  ") for line in lines):
            if name in CHECKED and (self.path / name).is_file() and sha256_of(self.path / name) != expected:
                raise UserError(
                    f"{self.path / name}: differs from what the run wrote, by {self.checksums.name}; restore it, or "
                    f"remove {self.checksums.name} if you changed it on purpose"
                )

    def _refused(self) -> UserError:
        return UserError(f"{self.path}: expected a run folder or an empty one; choose another --run")

    def _tidy(self) -> None:
        for path in (self.state, self.utterances):
            path.unlink(missing_ok=True)


def misfit_of_start(weights: dict[str, Any] | None) -> str:
    """The problem in the provenance of weights or of their starting weights; empty without one."""
    while weights is not None:
        problem = misfit(weights, dict) or misfit(weights, {name: START[name] for name in START if name in weights})
        if problem:
            return f"weights: {problem}"
        weights = weights.get("started_from")
    return ""
