"""The functions of ``import wss``. They read their arguments and call other packages; nothing is computed here."""
