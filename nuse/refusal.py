"""The one way to say no: a line for stderr that tells what is wrong and what to do, and exit status 2."""

EXIT_REFUSED = 2


class Refused(Exception):
    """Cannot be done here and now; the message is the line to show, without the leading `nuse: `."""
