"""The corpora that ser_tf recognises by their file names: one module each, which defines `CORPUS`."""

from importlib import import_module
from pkgutil import iter_modules

from ser_tf.corpora import synthetic
from ser_tf.corpora.kind import CorpusKind

KNOWN_CORPORA: tuple[CorpusKind, ...] = (
    *(import_module(f"{__name__}.{module.name}").CORPUS for module in iter_modules(__path__)),
    synthetic.CORPUS,
)
"""Published corpora by name, then the synthetic one."""
