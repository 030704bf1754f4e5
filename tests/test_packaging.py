"""A wheel, built from a copy of the sources, works outside the checkout."""

import re
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

CHECKOUT = Path(__file__).parents[1]
DATA = {
    "ser_tf/py.typed",
    "ser_tf/corpora/folds.yaml",
    "ser_tf/report/page.html",
    "ser_tf/report/style.css",
    "ser_tf/report/timeline.css",
    *(
        f"ser_tf/server/page/{name}"
        for name in ("index.html", "style.css", "page.js", "microphone.js", "recorder.js", "icon.svg")
    ),
}

MODEL_SUFFIXES = (".onnx", ".json", ".csv")
LARGEST_MODELS_BYTES = 8_000_000


def setup_cfg() -> ConfigParser:
    parser = ConfigParser()
    parser.read(CHECKOUT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout; an old build folder cannot lend it files."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "folds.yaml"):
        shutil.copy(CHECKOUT / name, sources)
    shutil.copytree(
        CHECKOUT / "ser_tf", sources / "ser_tf", symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", sources / "dist", sources], check=True, cwd=sources)
    (built,) = (sources / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_with(folder: Path, code: str) -> str:
    """Output of the code where the package is that of `folder`; `-I` keeps the checkout out of the path."""
    prologue = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    command = [sys.executable, "-I", "-c", prologue + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_wheel_holds_every_module_and_the_data(wheel):
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        inside = archive.read("ser_tf/corpora/folds.yaml")
    modules = {str(file.relative_to(CHECKOUT)) for file in (CHECKOUT / "ser_tf").rglob("*.py")}
    metadata = {name for name in names if ".dist-info/" in name}
    folder = CHECKOUT / "ser_tf" / "models"
    models = {str(file.relative_to(CHECKOUT)) for file in folder.iterdir() if file.suffix in MODEL_SUFFIXES}
    assert names - metadata == modules | DATA | models
    assert any(name.endswith("LICENSE") for name in metadata)
    assert inside == (CHECKOUT / "folds.yaml").read_bytes()


def test_the_models_take_at_most_8_mb_of_the_wheel(wheel):
    with ZipFile(wheel) as archive:
        sizes = [file.compress_size for file in archive.infolist() if file.filename.startswith("ser_tf/models/")]
    assert 0 < sum(sizes) <= LARGEST_MODELS_BYTES


def test_the_wheel_works_outside_the_checkout(unpacked):
    code = """
from pathlib import Path
import ser_tf, ser_tf.config, ser_tf.corpora, ser_tf.corpora.folds as folds
from ser_tf.corpora.known import ravdess
from ser_tf.corpora.corpus import Corpus, Utterance
print(Path(ser_tf.__file__).parents[1])
print(*ser_tf.config.PRESETS)
speech = tuple(Utterance(str(n), Path(str(n)), f"ravdess:{n:02d}", "sad") for n in range(1, 25))
corpus = Corpus("ravdess", Path("."), speech, ravdess.EMOTIONS, ("neutral",) * 8, ())
print(len(folds.load_scheme("complete", corpus).folds))
"""
    where, presets, folds = run_with(unpacked, code).splitlines()
    assert where == str(unpacked)
    assert presets == "paper compact tiny vggvox"
    assert folds == "10"


def test_the_wheels_command_answers(unpacked):
    script = (unpacked / f"ser_tf-{version('ser_tf')}.dist-info" / "entry_points.txt").read_text()
    assert "ser-tf = ser_tf.__main__:main" in script
    answer = run_with(unpacked, "sys.argv = ['ser-tf', '--help']\nfrom ser_tf.__main__ import main\nmain()")
    for command in ("audit", "finetune", "evaluate", "predict"):
        assert command in answer


def test_the_newest_heading_of_the_changelog_is_the_version():
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == setup_cfg()["metadata"]["version"] == version("ser_tf")


def test_the_citation_names_the_version():
    assert f"version: {setup_cfg()['metadata']['version']}\n" in (CHECKOUT / "CITATION.cff").read_text()


def test_the_test_extra_brings_what_builds_the_wheel():
    backend = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert set(backend) <= set(setup_cfg()["options.extras_require"]["test"].split())
