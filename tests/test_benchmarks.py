"""The benchmark that compares two detectors; the other benchmarks only measure."""

import pytest
import tensorflow as tf

from benchmarks import vad_agreement
from ser_tf.errors import UserError


@pytest.fixture
def four_tones(tones):
    """A table of four tones of 0.6 s, so of 20 frames of 30 ms each."""
    table = tones.with_name("four.csv")
    chosen = ("1-happy-0", "1-sad-0", "2-happy-0", "2-sad-0")
    rows = [row for row in tones.read_text().splitlines() if row.startswith(("path", *chosen))]
    table.write_text("\n".join(rows) + "\n")
    return table


def test_equal_frames_and_speech_are_counted(four_tones, monkeypatch, capsys):
    def first_kept_whole(*arguments):
        speech, lengths, kept_whole = in_graph(*arguments)
        return speech, lengths, tf.concat([~kept_whole[:1], kept_whole[1:]], 0)

    in_graph = vad_agreement.remove_silence_in_graph
    monkeypatch.setattr(vad_agreement, "remove_silence_in_graph", first_kept_whole)
    vad_agreement.main(four_tones, every=2)  # two recordings, the first of which now differs
    assert capsys.readouterr().out == (
        "table, mode 2, 30 ms: 40 of 40 frames (100.0000 %), the same speech in 1 of 2 recordings (50.000 %)\n"
    )


@pytest.mark.parametrize("every", [0, -1])
def test_every_below_one_is_refused(four_tones, every):
    with pytest.raises(UserError, match=f"^every: expected at least 1. Received: {every}$"):
        vad_agreement.main(four_tones, every=every)
