"""Push and fetch, against a local fake of the hub's HTTP interface."""

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import ser_tf
from ser_tf.errors import UserError
from ser_tf.serving import model_card
from ser_tf.serving.hub import FILES, fetch, hub_name, push

constants = pytest.importorskip("huggingface_hub.constants", reason="the extra [hub] brings it")
pytestmark = pytest.mark.usefixtures("shallow")
TOKEN = "hf_writer"
COMMIT = "0123456789" * 4


class FakeHub(BaseHTTPRequestHandler):
    """What fetching and pushing ask of the hub; `repositories` is name -> path -> content."""

    repositories: dict[str, dict[str, bytes]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status: int, content: bytes | dict | list = b"", **headers: str):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.repositories.get(name)
        if files is None:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif parts[0] != "api":  # OWNER/NAME/resolve/COMMIT/FILE
            content = files["/".join(parts[4:])]
            self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)
        elif parts[4:5] == ["tree"]:
            blobs = {path: hashlib.sha1(content).hexdigest() for path, content in files.items()}
            self.answer(
                200, [{"type": "file", "path": path, "size": len(files[path]), "oid": blobs[path]} for path in files]
            )
        else:
            self.answer(200, {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            made = json.loads(body)
            name = f"{made['organization']}/{made['name']}"
            self.repositories.setdefault(name, {})
            self.answer(200, {"url": f"{constants.ENDPOINT}/{name}", "name": name})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.answer(200, {"files": [{**file, "shouldIgnore": False} for file in files]})
        elif "/commit/" in self.path:
            name = "/".join(self.path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(200, {"commitUrl": f"{constants.ENDPOINT}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
        else:  # such as the check of a card's head
            self.answer(200, {"errors": [], "warnings": []})


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[dict[str, dict[str, bytes]]]:
    """The repositories of a fake hub that this process talks to, logged in and with an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    FakeHub.repositories = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield FakeHub.repositories
    server.shutdown()
    server.server_close()


def test_a_pushed_run_answers_like_the_one_it_was_pushed_from(hub, finetuned, tones, tmp_path):
    run = finetuned("S5").path
    assert push(run, "anna/voices") == f"{constants.ENDPOINT}/anna/voices/commit/{COMMIT}"
    pushed = hub["anna/voices"]
    assert pushed.keys() == {file for file in FILES if (run / file).exists()} | {"README.md"}
    card = pushed["README.md"].decode()
    assert card.startswith("---\nlibrary_name: keras\n")
    assert "# Model card: S5 on table, complete fold 1" in card

    hub["anna/voices"]["malice.py"] = b"raise SystemExit"  # what no run holds is not fetched
    recogniser = ser_tf.load("hf://anna/voices")
    clip = tones.parent / "1-happy-0.wav"
    assert recogniser(clip) == ser_tf.load(run)(clip)
    np.testing.assert_array_equal(recogniser(clip).embedding, ser_tf.load(Path("hf://anna/voices"))(clip).embedding)
    assert not list((tmp_path / "hub").rglob("malice.py"))


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The files of a run, as far as the hub is concerned."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text('{"identity": {}}')
    (folder / "metrics.json").write_text("{}")
    monkeypatch.setattr(model_card, "model_card", lambda run: "the card")
    return folder


def test_what_was_fetched_is_there_without_the_hub(hub, run, monkeypatch):
    push(run, "anna/voices")
    fetched = fetch("anna/voices")
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == {
        path.name: path.read_bytes() for path in run.iterdir()
    }
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert fetch("anna/voices") == fetched
    with pytest.raises(UserError, match=r"^hf://anna/other: the hub cannot be reached, and this model was not fetched"):
        ser_tf.load("hf://anna/other")
    with pytest.raises(UserError, match=r"^anna/voices: the hub cannot be reached; .*check the connection$"):
        push(run, "anna/voices")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("anna/voices", "hf://anna/voices: the hub has no such model, or it is private; check the name, or log in"),
        ("anna/vo ices", "hf://anna/vo ices: expected OWNER/NAME of a model on the hub; "),
    ],
)
def test_a_model_that_is_not_there_is_one_line(hub, name, message):
    with pytest.raises(UserError, match=f"^{message}"):
        ser_tf.load(f"hf://{name}")


def test_who_may_not_write_is_told_to_log_in(hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(UserError, match=r"^anna/voices: the hub refuses; log in with a token that may write: hf auth"):
        push(run, "anna/voices")


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^hf://: needs huggingface_hub; install the extra: .*\[hub\]"):
        ser_tf.load("hf://anna/voices")


@pytest.mark.parametrize(
    ("run", "name"), [("hf://a/b", "a/b"), (Path("hf://a/b"), "a/b"), ("runs/a", None), ("hf://a", None)]
)
def test_an_address_of_the_hub_is_told_from_a_folder(run, name):
    assert hub_name(run) == name
