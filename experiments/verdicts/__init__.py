"""The rules by which each claim is judged, one module per room; they were fixed before the numbers."""
