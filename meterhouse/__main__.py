"""`python -m meterhouse`: the command line."""

from meterhouse.cli import main

if __name__ == "__main__":
    main()
