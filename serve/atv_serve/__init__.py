"""An OpenAI-compatible server in which every request says how it is steered."""
