from .harness_arguments import HarnessArguments as HarnessArguments
from .harness_model import AtvLocal as AtvLocal
