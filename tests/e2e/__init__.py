"""From raw files to an answer over HTTP, with the commands that people type."""
