"""The functions of ``import wss``. They read what they are given and call what exists; nothing is computed here."""
