from .frozen_target import FrozenTarget as FrozenTarget
from .frozen_target import check_weights as check_weights
from .frozen_target import load_target as load_target
from .injection import decoder_blocks as decoder_blocks
from .injection import injected as injected
from .injection import position_mask as position_mask
from .prefix_cache import PrefixStore as PrefixStore
