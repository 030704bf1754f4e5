"""What a user can cause: one exception, one clear line."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line that names the file or the argument, says what was expected and what came, and gives the
    remedy. The command line prints it alone, without a traceback, and exits with status 1.
    """
