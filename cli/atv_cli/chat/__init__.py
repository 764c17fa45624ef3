"""The interactive chat: its loop, slash commands, settings and saved conversations."""
