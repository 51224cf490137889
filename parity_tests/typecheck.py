"""The type checker of the test suite: beartype, for which an integer is a number wherever a float is."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
