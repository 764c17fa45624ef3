"""What can go wrong, said in one sentence that names the offending value and the way out."""

from atv_local.text import one_line

_LONGEST = 2000


class AtvError(Exception):
    """Base of every error a user can cause. The CLI prints the message and exits with `exit_code`.

    As text it is one printable line, whatever names and values from files stand in it.
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__()[:_LONGEST])


class UsageError(AtvError):
    """A call or command line that cannot be meant: an empty query, a layer range the target does not have."""

    exit_code = 2


class StoreError(AtvError):
    """A name that leads to no model or bundle here."""


class ModelError(AtvError):
    """The GGUF cannot be loaded, or llama.cpp does not steer its architecture."""


class UnstableError(ModelError):
    """Logits that are no longer finite numbers, as under too strong a vector."""


class BundleError(AtvError):
    """The generator bundle is damaged, from the future, or made for another target."""


class VectorError(AtvError):
    """A task vector with the wrong shape or with values that are not finite."""


class PromptError(AtvError):
    """The prompt does not fit the context."""


class DataError(AtvError):
    """A row of training data that cannot be used, named by file and line."""


class TrainingError(AtvError):
    """Training that cannot go on, such as a loss that is no longer a number."""
