"""MongoDB's update operators, applied in process to one document. Imports the order and the filters beside it."""
