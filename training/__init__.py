"""Raw interactions to a model bundle: each step a pure function and a verb of the CLI."""
