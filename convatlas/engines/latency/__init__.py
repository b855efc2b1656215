"""How long networks would take on this machine, predicted from what random chains of their blocks took."""
