"""Operations on an installation: doctor, drain, repartition, indexes. Imports `pipeline`."""
