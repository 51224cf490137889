"""Races the twins, and shows them side by side."""

NAME = "python -m benchmarks"
"""How its commands are called."""
