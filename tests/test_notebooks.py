import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbclient
import nbformat
import pytest

from ser_tf.config import preset
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.opening import open_corpus
from ser_tf.corpora.synthetic import synthesise
from ser_tf.runs.folder import RunFolder
from ser_tf.training.finetune import finetune
from ser_tf.training.fold_task import FoldTask

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LARGEST_KILOBYTES = 300


@pytest.fixture(scope="module")
def beside_runs(tmp_path_factory) -> Path:
    """A copy of the notebooks beside runs of one epoch where they expect them."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(NOTEBOOKS[0].parent, root / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_TF_CACHE", str(root / "cache"))
        synthesise(root / "runs/demo/corpus", speakers=12, takes=1)
        corpus = open_corpus(root / "runs/demo/corpus")
        scheme = load_scheme("complete", corpus)
        tiny = preset("tiny")
        config = replace(tiny, training=replace(tiny.training, maximum_epochs=1, crop_seconds=0.5))
        for strategy in ("S3", "S4", "S5"):
            task = FoldTask.make(corpus, scheme, 1, strategy, config, None)
            finetune(task, RunFolder(root / "runs/notebook" / strategy), report=print)
    return root / "notebooks"


@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_a_notebook_runs_from_top_to_bottom(beside_runs, name):
    notebook = nbformat.read(beside_runs / name, as_version=4)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(beside_runs)}}, timeout=600).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_can_be_read_without_running_it(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any({"image/jpeg", "image/svg+xml"} & output.get("data", {}).keys() for output in outputs)
    assert not [output for output in outputs if output["output_type"] in ("error", "stream")]
    assert path.stat().st_size < LARGEST_KILOBYTES * 1000
