from .main import app as app
from .options import steering_changes as steering_changes
