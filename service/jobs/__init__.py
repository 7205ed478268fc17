"""Jobs: what they are, how they move from state to state, and the database that is the truth about them."""
