"""Runs on the Hugging Face Hub (extra `[hub]`): fetched as `hf://OWNER/NAME`, and pushed with their model card."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ser_tf.errors import UserError, first_line, import_extra
from ser_tf.runs.folder import RunFolder

FILES = (
    *("config.yaml", "run.json", "metrics.json", "predictions.csv", "confusion.csv", "classifier.json"),
    *("embedding.weights.h5", "head.weights.h5", "embedding.keras", "svm.npz", "svm.skops"),
)
"""What of a run is pushed, where it is there, and fetched: all that names emotions, and what came out."""
CARD = "README.md"
CARD_HEAD = """---
library_name: keras
pipeline_tag: audio-classification
license: other
license_name: that-of-the-corpora
tags:
- ser-tf
- speech-emotion-recognition
---

"""
"""What the hub reads of the card; the licences of the corpora are in its table."""
_ADDRESS = re.compile(r"hf:/{1,2}([^/]+/[^/]+)")  # a Path takes two slashes for one


def hub_name(run: str | Path) -> str | None:
    """OWNER/NAME of an address hf://OWNER/NAME; None for anything else."""
    found = _ADDRESS.fullmatch(Path(run).as_posix())
    return found[1] if found else None


def fetch(name: str) -> Path:
    """Fetch a run, or find the fetched one where the hub cannot be reached.

    Raises:
        UserError: there is no such model, the hub cannot be reached and the model was never fetched, or the extra is
            missing.
    """
    hub = _hub()
    with _explained(f"hf://{name}"):
        return Path(hub.snapshot_download(name, allow_patterns=list(FILES)))


def push(run: Path, name: str) -> str:
    """Push a finished run and its model card.

    Args:
        run: its folder.
        name: OWNER/NAME; it is made if it does not exist.

    Returns:
        The address of the commit.

    Raises:
        UserError: the folder is no finished run; the name is none; the hub cannot be reached or refuses; or the extra
            is missing.
    """
    from ser_tf.serving.model_card import model_card  # pandas and scipy, which a fetched run can do without

    hub = _hub()
    folder = RunFolder(run)
    folder.require_finished()
    contents: dict[str, Any] = {file: run / file for file in FILES if (run / file).is_file()}
    contents[CARD] = (CARD_HEAD + model_card(folder)).encode()
    with _explained(name):
        api = hub.HfApi()
        api.create_repo(name, exist_ok=True)
        operations = [hub.CommitOperationAdd(path, content) for path, content in contents.items()]
        return str(api.create_commit(name, operations, commit_message=f"ser-tf push {run.resolve().name}").commit_url)


def _hub() -> Any:
    return import_extra("huggingface_hub", "hf://: needs huggingface_hub", "hub")


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Say what the hub's many errors mean."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f"{place}: expected OWNER/NAME of a model on the hub; {first_line(error)}") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{place}: the hub cannot be reached, and this model was not fetched before; check the connection and "
            "HF_HUB_OFFLINE"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{place}: the hub has no such model, or it is private; check the name, or log in: hf auth login"
        ) from error
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise UserError(f"{place}: the hub refuses; log in with a token that may write: hf auth login") from error
        raise UserError(f"{place}: the hub failed; {first_line(error)}; try again later") from error
    except Exception as error:  # of its HTTP client, which changes with its version
        raise UserError(f"{place}: the hub cannot be reached; {first_line(error)}; check the connection") from error
