"""Writes the folder of a noise measurement with simple counts."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ser_tf.runs.files import write_json
from ser_tf.statistics.noise_folder import COLUMNS, CONDITIONS, NoiseFolder

EMOTIONS = ("happy", "sad")
SPEAKERS = tuple(f"ravdess:{number:02d}" for number in range(1, 11))
UTTERANCES = 4
"""Number per speaker and emotion."""

Lost = Mapping[str, int]
"""Portion -> how many of a speaker's four happy utterances are wrong with noise over it."""


def always(**lost: int) -> Callable[[str], Lost]:
    return lambda speaker: lost


def write_measurement(
    path: Path,
    lost: Mapping[str, Callable[[str], Lost]],
    *,
    seeds: int = 1,
    speakers: int = 10,
    descriptors: str = "3+",
) -> NoiseFolder:
    """Write a measurement. Without noise all happy and half of the sad utterances are right; only S1 has no ghosts.

    Args:
        path: a new folder.
        lost: strategy -> speaker -> utterances lost through noise.
        seeds: number of equal seeds.
        speakers: number of speakers.
        descriptors: class of every noisy utterance; without noise it is "3+".
    """
    folder = NoiseFolder(path)
    folder.path.mkdir()
    rows, runs = [], {}
    for strategy, of_speaker in lost.items():
        ghosts = 0 if strategy == "S1" else 2
        for seed in range(seeds):
            runs[f"{strategy}-fold1-seed{seed}"] = {"strategy": strategy, "ghost_clusters": ghosts, "hash": "0" * 16}
            for speaker in SPEAKERS[:speakers]:
                for condition in CONDITIONS:
                    happy = UTTERANCES - of_speaker(speaker).get(condition.portion, 0)
                    for emotion, correct, clean in (("happy", happy, UTTERANCES), ("sad", 2, 2)):
                        snr_db = "" if condition.snr_db is None else condition.snr_db
                        noise = [condition.noise, condition.portion, snr_db]
                        halves = [UTTERANCES, 0.1, 0.3] if condition.portion == "half" else [0, "", ""]
                        ghost = [0.2, *halves] if ghosts else [""] * 4
                        count = "3+" if condition.snr_db is None else descriptors
                        place = [strategy, 1, seed, speaker, emotion, *noise, count]
                        rows.append([*place, UTTERANCES, correct, clean, *ghost])
    lines = [",".join(map(str, row)) for row in [COLUMNS, *rows]]
    folder.table.write_text("\n".join(lines) + "\n")
    write_json(folder.about, {"settings": {"corpus": "ravdess", "emotions": list(EMOTIONS)}, "runs": runs})
    return folder
