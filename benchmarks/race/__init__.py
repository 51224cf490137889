"""The race: who, at what, and how it is measured."""
