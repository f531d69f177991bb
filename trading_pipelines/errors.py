"""Errors that a user can cause and mend."""


class UserError(Exception):
    """A mistake in what the user gave; the message is one line that names what to do."""
