"""Policies: networks in torch, files on disk, and a runtime in numpy."""
