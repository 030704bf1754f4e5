"""What a model card must say of a corpus: its licence, and who speaks how in it."""

from dataclasses import dataclass

from ser_tf.corpora import crema_d, emovo, nemo, ravdess, synthetic
from ser_tf.corpora.speakers import LIBRISPEECH, VOXCELEB1, VOXCELEB2


@dataclass(frozen=True)
class CorpusFacts:
    """What the publisher of a corpus says of it."""

    title: str
    licence: str
    terms: str
    """What the licence asks of whoever passes weights on that learned from the recordings."""
    speech: str
    """Who speaks, in which language, how."""


KNOWN_FACTS: dict[str, CorpusFacts] = {
    ravdess.NAME: CorpusFacts(
        title="RAVDESS speech (Livingstone and Russo 2018, doi 10.5281/zenodo.1188976)",
        licence="CC BY-NC-SA 4.0",
        terms="no commercial use; name the authors; share alike",
        speech="24 professional actors, 12 women and 12 men of 21 to 33 years, speak two sentences in North American "
        "English with acted emotion, in a studio",
    ),
    crema_d.NAME: CorpusFacts(
        title="CREMA-D (Cao et al. 2014)",
        licence="ODbL 1.0",
        terms="name the source; a database derived from it stays under the same licence",
        speech="91 actors, 43 women and 48 men of 20 to 74 years, speak twelve sentences in English with acted emotion",
    ),
    emovo.NAME: CorpusFacts(
        title="EMOVO (Costantini et al. 2014)",
        licence="free for research with citation; none stated in copies",
        terms="research only; name the authors",
        speech="6 actors, 3 women and 3 men, speak 14 sentences in Italian with acted emotion",
    ),
    nemo.NAME: CorpusFacts(
        title="nEMO (Christop 2024)",
        licence="CC BY-NC-SA 4.0",
        terms="no commercial use; name the authors; share alike",
        speech="9 actors speak sentences in Polish with acted emotion",
    ),
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
    synthetic.NAME: CorpusFacts(
        title="the synthetic corpus of ser_tf",
        licence="none: a program made the recordings",
        terms="nothing",
        speech="nobody: synthetic voices, which say nothing about human emotion",
    ),
}
"""By the name of the corpus, which is also the first part of its speakers' names."""


def facts_of(corpus: str) -> CorpusFacts:
    """The facts of a corpus; of one that ser_tf does not know they say so."""
    unknown = CorpusFacts(
        title=f"recordings of the user's own ({corpus})",
        licence="not known to ser_tf",
        terms="ask whoever trained the run",
        speech="not known to ser_tf",
    )
    return KNOWN_FACTS.get(corpus, unknown)
