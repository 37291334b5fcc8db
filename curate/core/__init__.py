"""The ground floor: shapes, registry, recipe, ledger and the readers that everything stands on."""
