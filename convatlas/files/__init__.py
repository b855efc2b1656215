"""Files written whole or not at all, locks, and archives unpacked below one place."""
