"""`python -m pauc_hub.cli` is `pauc`."""

from pauc_hub.cli import main

if __name__ == "__main__":
    main()
