"""Licence, terms and speakers of each corpus, as its publisher states them: for model cards and weights."""

from ser_tf.corpora.kind import CorpusFacts
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.corpora.speakers import LIBRISPEECH, VOXCELEB1, VOXCELEB2

KNOWN_FACTS: dict[str, CorpusFacts] = {
    **{kind.name: kind.facts for kind in KNOWN_CORPORA},
    LIBRISPEECH: CorpusFacts(
        title="LibriSpeech (Panayotov et al. 2015)",
        licence="CC BY 4.0",
        terms="name the authors",
        speech="volunteers read English books aloud",
    ),
    **{
        name: CorpusFacts(
            title=f"VoxCeleb{number} ({source})",
            licence="CC BY 4.0 for the lists; the recordings belong to their owners",
            terms="name the authors; see the publisher's page for the use of the recordings",
            speech="celebrities in interviews on YouTube, in many languages",
        )
        for name, number, source in (
            (VOXCELEB1, 1, "Nagrani et al. 2017"),
            (VOXCELEB2, 2, "Chung et al. 2018"),
        )
    },
}
"""By the name of the corpus, which is also the first part of its speakers' names."""


def facts_of(corpus: str) -> CorpusFacts:
    """The facts of a corpus; for one that ser_tf does not know they say so."""
    unknown = CorpusFacts(
        title=f"recordings of the user's own ({corpus})",
        licence="not known to ser_tf",
        terms="ask whoever trained the run",
        speech="not known to ser_tf",
    )
    return KNOWN_FACTS.get(corpus, unknown)
