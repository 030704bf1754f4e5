"""`ser-tf` and `python -m ser_tf`. Ctrl-C ends with one line at any time, even during imports."""

import signal

from ser_tf import interruption


def main() -> None:
    """Run the command line."""
    interruption.listen()
    try:
        from ser_tf.cli.door import main as command_line

        command_line()
    except BaseException as error:  # after Ctrl-C, libraries raise many kinds
        already_ended = isinstance(error, SystemExit) and error.code == interruption.STATUS
        if already_ended or not interruption.heard():
            raise
    if interruption.heard():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process at once
        interruption.end()


if __name__ == "__main__":
    main()
