"""How results look to a person: one function for each."""
