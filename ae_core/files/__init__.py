"""Files that are written whole or not at all, the weights file first."""
