"""recording -> eGeMAPSv02 (Eyben et al. 2016): one vector per utterance, computed by openSMILE, an extra.

openSMILE is not thread-safe (audeering/opensmile#20), and version 2.6 corrupts the heap of a process that has loaded
TensorFlow 2.21. So recordings go to new processes, and this module does not import TensorFlow.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ser_tf.audio.waveform import read_waveform
from ser_tf.config import SAMPLE_RATE_HZ
from ser_tf.errors import import_extra

SHORTEST_SAMPLES = 960
"""60 ms, openSMILE's longest window; shorter recordings are padded."""


def require_opensmile() -> str:
    """The version of openSMILE.

    Raises:
        UserError: it is not installed; the message names the extra.
    """
    return import_extra("opensmile", "eGeMAPS needs openSMILE", "opensmile").__version__


def egemaps(paths: Sequence[Path]) -> list[np.ndarray]:
    """The 88 functionals of each recording, float32 [88], in parallel: one process per core.

    Raises:
        UserError: a recording cannot be read.
    """
    from joblib import Parallel, cpu_count, delayed

    processes = max(2, cpu_count())  # one would be this process, which openSMILE aborts if TensorFlow is loaded
    return Parallel(n_jobs=processes, backend="loky")(delayed(_egemaps_of)(path) for path in paths)


def _egemaps_of(path: Path) -> np.ndarray:
    waveform = read_waveform(path)
    lacking = max(0, SHORTEST_SAMPLES - len(waveform))
    return _smile().process_signal(np.pad(waveform, (0, lacking)), SAMPLE_RATE_HZ).to_numpy()[0]


@cache
def _smile() -> Any:
    import opensmile

    return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
