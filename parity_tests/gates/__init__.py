"""The gates: functions that compare the twins and return checks."""
