"""What a file holds that is never loaded."""


class Refused(Exception):
    """Something in a file that is never loaded; the message names it."""
