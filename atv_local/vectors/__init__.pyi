from .steering import MAX_STRENGTH as MAX_STRENGTH
from .steering import Positions as Positions
from .steering import Steering as Steering
from .steering import parse_layers as parse_layers
from .target_spec import BoundedText as BoundedText
from .target_spec import Sha256 as Sha256
from .target_spec import TargetSpec as TargetSpec
from .task_vector import TaskVector as TaskVector
