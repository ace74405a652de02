"""One page with every claim, table and figure and where each number comes from."""
