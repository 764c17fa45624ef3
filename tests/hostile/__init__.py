"""Files as someone would make them who means harm."""
