"""What a GPU does with this project: right values, rates, and the paper's own runs, for whoever has one for an hour."""
