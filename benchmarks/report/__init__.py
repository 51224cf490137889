"""What is worked out from a race's records: ratios, targets, tables, plots, pages."""
