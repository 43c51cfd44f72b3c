"""``python -m qa_lora``: the command line."""

import sys

from qa_lora.cli import main

if __name__ == "__main__":
    sys.exit(main())
