from .server import Server as Server
from .server import ServerOptions as ServerOptions
from .work import check_bundle_ids as check_bundle_ids
