"""Points to verdicts: which quality rules each breaks; those that do are listed in quarantine."""
