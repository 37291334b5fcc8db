"""Reading of sources: files, folders, archives and hub data sets, container by container."""
