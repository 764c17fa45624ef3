"""Plug-ins found through entry points: names of Ollama, Ray clusters, the model for llm."""
