from .export_bundle import ExportReport as ExportReport
from .export_bundle import PaperOptions as PaperOptions
from .export_bundle import run as run
from .model_card import describe as describe
