"""Errors that are the user's to fix, told in one line."""


class InputError(Exception):
    """Something given to vitpipe is wrong: settings, data or the machine's state.

    The message is one line that says what is wrong, where, and what would be right;
    a stage prints it and exits with status 1 (see `vitpipe.stage`).
    """
