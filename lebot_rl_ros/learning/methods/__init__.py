"""The learning methods, one readable file each."""
