from .app import Application as Application
from .connection import Connection as Connection
from .guard import LOOPBACK as LOOPBACK
from .guard import Limits as Limits
from .metrics import Metrics as Metrics
from .reply import Replies as Replies
