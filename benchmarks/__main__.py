import sys

import tyro

from benchmarks.main_job import MainJob, main

if __name__ == "__main__":
    sys.exit(main(tyro.cli(MainJob, prog="python -m benchmarks", config=(tyro.conf.FlagCreatePairsOff,))))
