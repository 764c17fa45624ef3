from .listing import entries as entries
from .resolve import default_bundle as default_bundle
from .resolve import default_model as default_model
