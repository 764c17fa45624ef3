from .loop import run_chat as run_chat
