"""The report of a race: ratios, targets, tables and figures, all from its records."""
