"""What can go wrong before there is anything to measure."""


class LoadTestError(Exception):
    """One line for the person at the terminal."""
