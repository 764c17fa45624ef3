from .checks import Check as Check
from .checks import State as State
from .checks import all_of as all_of
