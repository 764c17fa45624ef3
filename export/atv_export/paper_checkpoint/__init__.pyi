from .checkpoint import PaperCheckpoint as PaperCheckpoint
from .checkpoint import read_paper_checkpoint as read_paper_checkpoint
from .layer0 import Layer0Report as Layer0Report
from .layer0 import fold_layer0 as fold_layer0
from .options import Layer0Method as Layer0Method
from .options import PaperOptions as PaperOptions
