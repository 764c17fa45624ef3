from .check import Check as Check
from .check import State as State
from .checks import check_all as check_all
