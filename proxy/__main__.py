"""`python -m proxy` is `ratchet`: for checkouts and for machines whose PATH lacks the script."""

from proxy.cli import main

if __name__ == "__main__":
    main()
