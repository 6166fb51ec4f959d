"""The REST service around one Engine; it never imports torch itself."""

__version__ = "0.1.0"
