import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile

from ser_tf.audio.egemaps import egemaps
from ser_tf.errors import UserError

pytestmark = pytest.mark.skipif(find_spec("opensmile") is None, reason="openSMILE, an extra, is not installed")

OPENSMILE = """
import sys, opensmile
smile = opensmile.Smile(feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals)
print(smile.process_files(sys.argv[1:]).to_json(orient="values", double_precision=15))
"""


def test_egemaps_are_opensmiles_own(tones, tmp_path):
    short = tmp_path / "short.wav"  # 32 ms, shorter than openSMILE accepts
    soundfile.write(short, 0.1 * np.sin(np.arange(512) / 5), 16_000)
    files = [tones.parent / "1-happy-0.wav", tones.parent / "2-sad-1.wav"]
    command = [sys.executable, "-c", OPENSMILE, *files]  # it would crash in this process, which has loaded TensorFlow
    expected = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    *found, of_short = egemaps([*files, short])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert of_short.shape == (88,)
    assert np.isfinite(of_short).all()


def test_an_unreadable_recording_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.wav: expected a recording, but there is no such file"):
        egemaps([tmp_path / "absent.wav"])
