"""The second backend: what must hold of a cross-validation and of a pre-training holds with KERAS_BACKEND=jax."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("test_cross_validation.py", "test_a_run_brings_the_same_after_others_as_alone[S5]"),
        ("test_finetune.py", "test_statistics_of_normalisation_fit_crops_without_augmentation"),
        ("test_pretrain.py", "test_the_weights_say_whom_they_have_heard"),
    ],
)
def test_what_holds_on_tensorflow_holds_on_jax(module, name, tmp_path):
    pytest.importorskip("jax", reason="the second backend is not installed: pip install -e '.[jax]'")
    chosen = f"{Path(__file__).with_name(module)}::{name}"
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", chosen],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            # Compiling without optimisation, and once for both networks, takes a third of the time.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    assert "1 passed" in finished.stdout
