"""The emotion of recordings over HTTP: a page with a microphone, and REST in the form of TensorFlow Serving."""
