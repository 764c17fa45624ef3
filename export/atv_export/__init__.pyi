from .export_bundle import export as export
from .export_choices import Layer0Method as Layer0Method
from .export_choices import PaperPooling as PaperPooling
from .export_choices import Processor as Processor
from .export_options import check_paths as check_paths
from .export_report import ExportReport as ExportReport
