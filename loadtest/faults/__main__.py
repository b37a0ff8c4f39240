"""The command: python -m loadtest.faults."""

from loadtest.faults.matrix import main

main()
