"""One command, `lebot`, with verbs."""
