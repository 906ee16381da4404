"""Documents as values, BSON and JSON: ids, codecs, patches, grammars. Pure: imports `errors` only."""
