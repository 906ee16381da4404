"""MongoDB's filters, sorts, projections and its order, decided in process. Imports `documents`."""
