import pytest

from ser_tf.errors import LONGEST_LINE, LONGEST_QUOTE, UserError, printable, quoted, require_backend


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("grüße 音声.wav", "grüße 音声.wav"),
        ("two\nlines", r"two\nlines"),
        ("\u2028 separates lines, too", r"\u2028 separates lines, too"),
        ("\x1b[2J clears a terminal", r"\x1b[2J clears a terminal"),
        ("\u202egnp.wav turns letters round", r"\u202egnp.wav turns letters round"),
        (b"caf\xe9.wav".decode(errors="surrogateescape"), r"caf\xe9.wav"),
        ("\ud800 of JSON", r"\ud800 of JSON"),
    ],
)
def test_a_line_never_breaks_and_can_be_written(text, line):
    assert str(UserError(text)) == printable(text) == line
    line.encode()


def test_a_long_line_keeps_its_beginning_and_its_remedy():
    line = str(UserError(f"run.json: expected a name. Received: {'a' * 10**6}; give another"))
    assert len(line) <= LONGEST_LINE
    assert line.startswith("run.json: expected a name. Received: aaa")
    assert line.endswith("aaa; give another")


def test_a_quoted_value_is_short():
    assert quoted([1, "a"]) == "[1, 'a']"
    assert len(quoted(list(range(10**5)))) <= LONGEST_QUOTE


def test_a_backend_that_is_not_ours_is_named_with_its_variable(monkeypatch):
    for chosen in ("tensorflow", "", None):
        if chosen is None:
            monkeypatch.delenv("KERAS_BACKEND", raising=False)
        else:
            monkeypatch.setenv("KERAS_BACKEND", chosen)
        require_backend()
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(UserError, match=r"^KERAS_BACKEND: expected tensorflow or jax. Received: torch; unset"):
        require_backend()


def test_a_backend_that_is_not_installed_is_named(monkeypatch):
    from ser_tf import errors

    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(errors, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"^KERAS_BACKEND=jax needs jax; install it, or unset"):
        require_backend()
