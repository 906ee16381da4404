"""What an operator does to an installation: doctor, drain, repartition, indexes. Imports `pipeline`."""
