"""What the model package raises when a file, a recipe or a request is at fault."""


class ModelError(Exception):
    """A bad file, recipe or request: says what was found, what was expected and what to do."""


class BundleError(ModelError):
    """A bundle folder that is incomplete, altered, or made for another version of this program."""


class FilterError(ModelError):
    """A filter that cannot be read: says what is wrong, where, and what there is instead."""
