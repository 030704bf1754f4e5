"""Fixtures that every test may use."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real speech beside the checkout; the project never carries it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real speech is not there: {SHARED_DATA}")
    return SHARED_DATA
