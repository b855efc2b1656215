"""Networks run outside training: exported, on the engines that deploy them, and timed."""
