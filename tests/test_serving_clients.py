"""The clients of docs/serving.md run as they are printed there, against stand-ins that answer with a real export.

The stand-ins speak the server's protocols and are not the server: what is shown is that the clients' requests fit the
signatures, and that the clients read the answers rightly.
"""

import json
import re
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import REAL

from ser_tf.serving.export import export
from ser_tf.serving.predict import load_run

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving")

pytestmark = pytest.mark.usefixtures("shallow")

DOCUMENT = Path(__file__).parents[1] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def signatures(shallow, finetuned, tmp_path_factory):
    saved = tf.saved_model.load(str(export(finetuned("S3").path, tmp_path_factory.mktemp("export"), "")))
    yield saved.signatures


@pytest.fixture(scope="module")
def live(shallow, finetuned):
    return load_run(finetuned("S3").path)


@pytest.fixture(params=["tone", *REAL])
def expected(request, live, tones, tmp_path, monkeypatch):
    """The run's prediction for the clip that the clients send."""
    clip = tones.parent / "1-sad-0.wav"
    if request.param != "tone":
        clip = request.getfixturevalue("shared_data") / request.param
    monkeypatch.chdir(tmp_path)
    Path("clip.wav").symlink_to(clip)
    prediction = live("clip.wav")
    return prediction.emotion, list(prediction.probabilities.values())


def client(protocol: str, port: int) -> str:
    """The code of the document's client, with the port of a stand-in."""
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if protocol in block
    ]
    assert "localhost:850" in code
    return re.sub(r"localhost:850\d", f"localhost:{port}", code)


def expect_printed(printed: str, expected) -> None:
    emotion, _, distribution = printed.partition(" ")
    assert emotion == expected[0]
    assert json.loads(distribution) == pytest.approx(expected[1], abs=1e-5)


def test_the_rest_client(signatures, expected, capsys):
    class StandIn(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/models/emotion:predict"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert request["signature_name"] == "padded"  # the one that a server that batches may be sent
            columns = {
                name: tf.constant([instance[name] for instance in request["instances"]])
                for name in ("waveform", "length")
            }
            answers = signatures["padded"](**columns)
            values = {name: tensor.numpy().tolist() for name, tensor in answers.items()}
            values["emotion"] = [text.decode() for text in values["emotion"]]
            values["problem"] = [text.decode() for text in values["problem"]]
            rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
            content = json.dumps({"predictions": rows}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("localhost", 0), StandIn)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    exec(client("urllib", server.server_port), {})
    thread.join()
    server.server_close()
    expect_printed(capsys.readouterr().out, expected)


def test_the_grpc_client(signatures, expected, capsys):
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class StandIn(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            assert (request.model_spec.name, request.model_spec.signature_name) == ("emotion", "padded")
            inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
            answers = signatures["padded"](**inputs)
            response = predict_pb2.PredictResponse()
            for name, tensor in answers.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor))
            return response

    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(StandIn(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    exec(client("import grpc", port), {})
    server.stop(None)
    expect_printed(capsys.readouterr().out, expected)
