"""How long networks would take on this machine, foretold from what random chains of their blocks took."""
