from .layer0 import Layer0Report as Layer0Report
from .layer0 import fold_layer0 as fold_layer0
from .paper_file import PaperCheckpoint as PaperCheckpoint
from .paper_file import read_paper_checkpoint as read_paper_checkpoint
from .paper_options import PaperOptions as PaperOptions
