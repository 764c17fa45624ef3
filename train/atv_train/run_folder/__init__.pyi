from .folder import BASELINES as BASELINES
from .folder import RUN as RUN
from .folder import STATE as STATE
from .folder import Folder as Folder
from .folder import read_record as read_record
from .run_spec import describe as describe
