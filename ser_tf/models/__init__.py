"""The packaged models: `NAME.onnx`, its card `NAME.json`, and `NAME.csv`, the predictions that choose a threshold."""
