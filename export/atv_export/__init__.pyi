from .export_bundle import export as export
from .report import ExportReport as ExportReport
