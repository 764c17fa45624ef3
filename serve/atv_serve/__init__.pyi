from .server import Server as Server
from .server import ServerOptions as ServerOptions
